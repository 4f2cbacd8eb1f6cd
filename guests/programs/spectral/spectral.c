/* spectral: largest singular value of an infinite matrix's top left corner, by power iteration, in double precision. */
#include "guest.h"

enum { ITERATIONS = 6 };

/* Entry (i, j): the reciprocal of the diagonal numbering of the quarter plane. */
static double entry(u32 i, u32 j) {
    u32 diagonal = i + j;
    return 1.0 / (double)(diagonal * (diagonal + 1) / 2 + i + 1);
}

static void forward(u32 n, const double *from, double *to) {
    for (u32 i = 0; i < n; i++) {
        double sum = 0;
        for (u32 j = 0; j < n; j++)
            sum += entry(i, j) * from[j];
        to[i] = sum;
    }
}

static void transposed(u32 n, const double *from, double *to) {
    for (u32 i = 0; i < n; i++) {
        double sum = 0;
        for (u32 j = 0; j < n; j++)
            sum += entry(j, i) * from[j];
        to[i] = sum;
    }
}

static double norm(u32 n, const double *v) {
    double sum = 0;
    for (u32 i = 0; i < n; i++)
        sum += v[i] * v[i];
    return __builtin_sqrt(sum);
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 48, 3030), sum = 0;
    u32 n = (u32)size;
    double *v = pages(n * sizeof *v), *image = pages(n * sizeof *image);
    for (u32 i = 0; i < n; i++)
        v[i] = 1;
    for (int round = 0; round < ITERATIONS; round++) {
        forward(n, v, image);
        transposed(n, image, v);
        double length = norm(n, v);
        for (u32 i = 0; i < n; i++)
            v[i] /= length;
        sum = mix(sum, bits_of(__builtin_sqrt(length)));
    }
    for (u32 i = 0; i < n; i++)
        sum = mix(sum, bits_of(v[i]));
    return result("spectral", size, sum);
}
