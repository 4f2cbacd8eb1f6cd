/* What a program of the kernel may use: its system calls as functions, and print. calls.h says what they do. */
#ifndef USER_H
#define USER_H

#include "base.h"
#include "calls.h"

long call(enum call number, u64 a, u64 b, u64 c);

static inline int fork(void) { return (int)call(CALL_FORK, 0, 0, 0); }
static inline int exec(const char *name, char **argv) { return (int)call(CALL_EXEC, (u64)name, (u64)argv, 0); }
static inline int wait(int pid, int *status) { return (int)call(CALL_WAIT, (u64)pid, (u64)status, 0); }
static inline int kill(int pid) { return (int)call(CALL_KILL, (u64)pid, 0, 0); }
static inline int getpid(void) { return (int)call(CALL_GETPID, 0, 0, 0); }
static inline void sleep(u64 milliseconds) { call(CALL_SLEEP, milliseconds, 0, 0); }
static inline void *grow(u64 bytes) { return (void *)call(CALL_GROW, bytes, 0, 0); }
static inline int open(const char *name, int mode) { return (int)call(CALL_OPEN, (u64)name, (u64)mode, 0); }
static inline int close(int file) { return (int)call(CALL_CLOSE, (u64)file, 0, 0); }
static inline long read(int file, void *to, u64 count) { return call(CALL_READ, (u64)file, (u64)to, count); }
static inline long write(int file, const void *from, u64 count) { return call(CALL_WRITE, (u64)file, (u64)from, count); }
static inline int remove(const char *name) { return (int)call(CALL_REMOVE, (u64)name, 0, 0); }
_Noreturn void exit(int status);

/* To the console, in one write if it is not long. */
void print(const char *text, ...) FORMAT(1, 2);

/* A decimal number; -1 if it is none. */
long number_of(const char *text);

#endif
