/* hello: greets, and shows which arguments reached the program. */
#include "guest.h"

int main(int argc, char **argv) {
    print("Hello from %s!\n", machine);
    print("argc = %d\n", argc);
    for (int i = 1; i < argc; i++)
        print("argv[%d] = %s\n", i, argv[i]);
    return 0;
}
