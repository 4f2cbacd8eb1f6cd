/* dispatch: calls through function-pointer tables: a market of agents of several classes exchanging messages. */
#include "guest.h"

enum { AGENTS = 64, KINDS = 6 };

struct agent;

/* The methods of a class; `receive` answers the index of the agent to be called next. */
struct class {
    u32 (*receive)(struct agent *self, u64 message);
    u64 (*send)(struct agent *self);
    void (*age)(struct agent *self);
};

struct agent {
    const struct class *class;
    u64 wealth, memory;
    u32 years;
};

static u64 send_wealth(struct agent *self) { return self->wealth / 8 + 1; }
static u64 send_memory(struct agent *self) { return self->memory ^ self->years; }
static u64 send_both(struct agent *self) { return mix(self->wealth, self->memory) & 0xffff; }

static void age_plainly(struct agent *self) { self->years++; }
static void age_and_forget(struct agent *self) {
    self->years += 2;
    self->memory >>= 1;
}
static void age_and_save(struct agent *self) {
    self->years++;
    self->wealth += self->wealth >> 6;
}

static u32 hoard(struct agent *self, u64 message) {
    self->wealth += message & 0xff;
    return (u32)(self->wealth >> 2);
}
static u32 spend(struct agent *self, u64 message) {
    self->wealth -= self->wealth / 4;
    return (u32)(message * 7 + self->years);
}
static u32 remember(struct agent *self, u64 message) {
    self->memory = self->memory * 31 + message;
    return (u32)(self->memory >> 9);
}
static u32 compare(struct agent *self, u64 message) {
    u32 answer = message > self->memory ? 5 : 11;
    self->memory = message;
    return answer + self->years;
}
static u32 gamble(struct agent *self, u64 message) {
    u64 throw = mix(message, self->memory++);
    self->wealth = throw & 1 ? self->wealth + 100 : self->wealth / 2;
    return (u32)(throw >> 32);
}
static u32 pass(struct agent *self, u64 message) { return (u32)message + self->years * 3; }

static const struct class classes[KINDS] = {
    {hoard, send_wealth, age_and_save},   {spend, send_wealth, age_plainly},
    {remember, send_memory, age_plainly}, {compare, send_memory, age_and_forget},
    {gamble, send_both, age_and_forget},  {pass, send_both, age_plainly},
};

static struct agent agents[AGENTS];

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 8000, 34000000), sum = 0, state = 0x9216d5d98979fb1bu;
    for (int i = 0; i < AGENTS; i++) {
        const struct class *class = &classes[random_below(&state, KINDS)];
        agents[i] = (struct agent){class, random_below(&state, 1000), (u64)i, 0};
    }
    struct agent *at = agents;
    for (u64 step = 0; step < size; step++) {
        u64 message = at->class->send(at) + step;
        at->class->age(at);
        struct agent *next = &agents[(message ^ message >> 7) % AGENTS];
        at = &agents[(next->class->receive(next, message) + step) % AGENTS];
        sum += message;
    }
    for (int i = 0; i < AGENTS; i++)
        sum = mix(mix(sum, agents[i].wealth), agents[i].memory + agents[i].years);
    return result("dispatch", size, sum);
}
