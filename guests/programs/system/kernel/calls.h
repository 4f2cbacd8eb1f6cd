/* The system calls: what kernel and user programs agree on. A program puts the number into a7, arguments into a0 to a2,
 * and executes ecall; the result comes in a0, and -1 says that the call failed. */
#ifndef CALLS_H
#define CALLS_H

enum call {
    CALL_EXIT,      /* (status): does not return */
    CALL_FORK,      /* (): 0 in the child, its number in the parent */
    CALL_EXEC,      /* (name, argv): does not return, unless it fails */
    CALL_WAIT,      /* (pid, int *status): waits for a child, any if pid is 0; returns its number */
    CALL_KILL,      /* (pid) */
    CALL_GETPID,    /* () */
    CALL_SLEEP,     /* (milliseconds) */
    CALL_GROW,      /* (bytes): more memory after the data; returns where it begins */
    CALL_OPEN,      /* (name, mode): returns a descriptor */
    CALL_CLOSE,     /* (descriptor) */
    CALL_READ,      /* (descriptor, buffer, bytes): returns how many; of the console at most a line, 0 at its end */
    CALL_WRITE,     /* (descriptor, buffer, bytes): returns how many */
    CALL_REMOVE,    /* (name): of a file that no process has open */
    CALL_FILE,      /* (index, struct file_facts *): returns the index after it, 0 at the end */
    CALL_PROCESS,   /* (index, struct process_facts *): the same */
    CALL_MEMORY,    /* (struct memory_facts *) */
    CALL_SHUTDOWN,  /* (status): does not return */
};

enum { OPEN_READ, OPEN_CREATE, OPEN_APPEND };
enum { NAME = 24, ARGUMENTS = 8, KILLED = -1 };

struct file_facts {
    char name[NAME];
    unsigned size;
    int linked; /* into the kernel, and read-only, not on the disk */
};

struct process_facts {
    int pid, parent;
    char name[NAME];
    char state; /* r(unning), R(eady), S(leeping), Z(ombie) */
    unsigned long milliseconds, turns, pages;
};

struct memory_facts {
    unsigned long pages, free, shared; /* shared: by processes that forked, until one writes */
};

#endif
