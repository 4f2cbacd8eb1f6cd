/* What a C library does at start and what programs ask of it: sorting, mathematics, allocation, environment,
 * floating-point environment, files. Prints only what every run and every C library must agree on. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int main(int argc, char **argv) {
    int numbers[1000];
    unsigned long seed = 1;
    for (int i = 0; i < 1000; i++) {
        seed = seed * 6364136223846793005ul + 1442695040888963407ul;
        numbers[i] = (int)(seed >> 40) % 5000;
    }
    qsort(numbers, 1000, sizeof *numbers, compare);
    printf("sorted %d %d %d\n", numbers[0], numbers[500], numbers[999]);

    double sum = 0;
    for (int i = 1; i < 2000; i++)
        sum += sqrt(i) + floor(i / 3.0) + (double)lround(i / 7.0) + rint(i / 2.0) + fma(i, 0.1, 1.0) + fmod(i, 0.7);
    printf("sum %a\n", sum);

    volatile float one = 1, three = 3;
    fesetround(FE_UPWARD);
    printf("up %a\n", (double)(one / three));
    fesetround(FE_DOWNWARD);
    printf("down %a inexact %d\n", (double)(one / three), fetestexcept(FE_INEXACT) != 0);
    fesetround(FE_TONEAREST);

    char *block = malloc(1 << 20);
    memset(block, 7, 1 << 20);
    block = realloc(block, 8 << 20);
    printf("block %d\n", block[(1 << 20) - 1]);
    free(block);

    printf("argc %d %s %s\n", argc, argv[argc - 1], getenv("PROBE") ? getenv("PROBE") : "none");
    FILE *file = tmpfile();
    fprintf(file, "%s", "written and read");
    rewind(file);
    char line[64] = "";
    printf("file %s", fgets(line, sizeof line, file) ? line : "none");
    printf("\n%s\n", strerror(2));
    fprintf(stderr, "to stderr\n");
    return time(NULL) > 1700000000 ? 5 : 6;
}
