/* Physical memory: pages of 4 KiB from the kernel's end to the RAM's, each with a count of its users.
 *
 * Pages that were never used are taken in order; those that were given back come first. Owns: which page is free. */
#include "kernel.h"

extern u8 bss_end[];

struct free_page { struct free_page *next; };

static u16 *users;      /* of each page of RAM */
static u8 *first;       /* page that can be given out */
static u8 *untouched;   /* from here on none was */
static struct free_page *returned;
static u64 in_use, shared;

static u16 *users_of(void *page) {
    return &users[((u64)page - board.memory) / PAGE];
}

void pages_start(void) {
    u64 count = (board.memory_end - board.memory) / PAGE;
    users = (u16 *)bss_end;
    memset(users, 0, count * sizeof *users);
    first = untouched = (u8 *)(((u64)(users + count) + PAGE - 1) & ~(u64)(PAGE - 1));
}

void *page_new(void) {
    void *page = returned;
    if (page)
        returned = returned->next;
    else if ((u64)untouched + PAGE <= board.memory_end)
        untouched = (u8 *)(page = untouched) + PAGE;
    else
        return 0;
    *users_of(page) = 1;
    in_use++;
    return memset(page, 0, PAGE);
}

void page_share(void *page) {
    shared += ++*users_of(page) == 2;
}

void page_drop(void *page) {
    shared -= *users_of(page) == 2;
    if (--*users_of(page) > 0)
        return;
    struct free_page *free = page;
    free->next = returned;
    returned = free;
    in_use--;
}

int page_users(void *page) {
    return *users_of(page);
}

void pages_facts(struct memory_facts *facts) {
    facts->pages = (board.memory_end - (u64)first) / PAGE;
    facts->free = facts->pages - in_use;
    facts->shared = shared;
}
