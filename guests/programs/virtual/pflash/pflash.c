/* pflash: reads the first word of a flash memory a hundred times, and shows it.
 *
 * Shows: a device that the guest reaches by itself, once it is mapped, or each access of which a monitor answers. */
#include "guest.h"

enum { FLASH = 0x22000000, TIMES = 100 };

int main(void) {
    u32 magic = *reg32(FLASH);
    for (int i = 1; i < TIMES; i++)
        if (*reg32(FLASH) != magic)
            magic = 0;
    print("Got pflash magic: %c%c%c%c\n", magic & 255, magic >> 8 & 255, magic >> 16 & 255, magic >> 24);
    return 0;
}
