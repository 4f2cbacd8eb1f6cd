/* spin LETTER COUNT: prints a letter so often, with two milliseconds of computing before each; it never gives the hart
 * up. Two of them at once show that it is taken from them: their letters mix. */
#include "user.h"

int main(int argc, char **argv) {
    long count = argc == 3 ? number_of(argv[2]) : -1;
    if (count < 0) {
        print("spin: it takes a letter and a number\n");
        return 1;
    }
    for (; count > 0; count--) {
        u64 start = time_now();
        while (time_now() - start < 20000) /* of the 10 MHz clock */
            ;
        print("%c", argv[1][0]);
    }
    print("\n");
    return 0;
}
