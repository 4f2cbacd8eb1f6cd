/* matmul: products of size x size matrices of doubles, of floats in tiles, and of 32-bit integers. */
#include "guest.h"

enum { TILE = 16 };

static void doubles(u32 n, const double *a, const double *b, double *c) {
    for (u32 i = 0; i < n; i++) {
        for (u32 j = 0; j < n; j++) {
            double sum = 0;
            for (u32 k = 0; k < n; k++)
                sum += a[i * n + k] * b[k * n + j];
            c[i * n + j] = sum;
        }
    }
}

static u32 least(u32 a, u32 b) { return a < b ? a : b; }

static void tiled_floats(u32 n, const float *a, const float *b, float *c) {
    for (u32 k0 = 0; k0 < n; k0 += TILE)
        for (u32 j0 = 0; j0 < n; j0 += TILE)
            for (u32 i = 0; i < n; i++)
                for (u32 k = k0; k < least(k0 + TILE, n); k++)
                    for (u32 j = j0; j < least(j0 + TILE, n); j++)
                        c[i * n + j] += a[i * n + k] * b[k * n + j];
}

static void integers(u32 n, const i32 *a, const i32 *b, i64 *c) {
    for (u32 i = 0; i < n; i++) {
        for (u32 j = 0; j < n; j++) {
            i64 sum = 0;
            for (u32 k = 0; k < n; k++)
                sum += (i64)a[i * n + k] * b[k * n + j];
            c[i * n + j] = sum;
        }
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 24, 390), state = 0x6a267e96ba7c9045u;
    u32 n = (u32)size, all = n * n;
    double *da = pages(all * 8), *db = pages(all * 8), *dc = pages(all * 8);
    float *fa = pages(all * 4), *fb = pages(all * 4), *fc = pages(all * 4);
    i32 *ia = pages(all * 4), *ib = pages(all * 4);
    i64 *ic = pages(all * 8);
    for (u32 i = 0; i < all; i++) {
        ia[i] = (i32)random_bits(&state) >> 8;
        ib[i] = (i32)random_bits(&state) >> 8;
        fa[i] = (float)ia[i] * 0x1p-24f;
        fb[i] = (float)ib[i] * 0x1p-24f;
        da[i] = (double)ib[i] / 3;
        db[i] = (double)ia[i] / 7;
    }
    doubles(n, da, db, dc);
    tiled_floats(n, fa, fb, fc);
    integers(n, ia, ib, ic);
    u64 sum = 0;
    for (u32 i = 0; i < all; i++)
        sum = mix(sum, bits_of(dc[i]) ^ bits_of_float(fc[i]) ^ (u64)ic[i]);
    return result("matmul", size, sum);
}
