/* mandel: escape times of the Mandelbrot set on a square of size x size points, in double precision. */
#include "guest.h"

enum { LIMIT = 200 };

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 20, 960), sum = 0;
    double step = 2.5 / (double)size;
    for (u64 row = 0; row < size; row++) {
        double ci = -1.25 + step * (double)row;
        for (u64 column = 0; column < size; column++) {
            double cr = -2.0 + step * (double)column, zr = 0, zi = 0, rr = 0, ii = 0;
            u32 count = 0;
            while (count < LIMIT && rr + ii <= 4.0) {
                zi = 2 * zr * zi + ci;
                zr = rr - ii + cr;
                rr = zr * zr;
                ii = zi * zi;
                count++;
            }
            sum = mix(sum, count ^ bits_of(rr));
        }
    }
    return result("mandel", size, sum);
}
