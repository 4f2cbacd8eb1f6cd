/* nbody: random bodies under softened gravity, leapfrog steps, in double precision. */
#include "guest.h"

enum { BODIES = 8 };

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static struct body bodies[BODIES];

static void attract(double dt) {
    for (struct body *a = bodies; a < bodies + BODIES; a++) {
        for (struct body *b = a + 1; b < bodies + BODIES; b++) {
            double dx = b->x - a->x, dy = b->y - a->y, dz = b->z - a->z;
            double square = dx * dx + dy * dy + dz * dz + 0.01;
            double pull = dt / (square * __builtin_sqrt(square));
            double to_b = pull * b->mass, to_a = pull * a->mass;
            a->vx += dx * to_b;
            a->vy += dy * to_b;
            a->vz += dz * to_b;
            b->vx -= dx * to_a;
            b->vy -= dy * to_a;
            b->vz -= dz * to_a;
        }
    }
}

static void drift(double dt) {
    for (struct body *a = bodies; a < bodies + BODIES; a++) {
        a->x += dt * a->vx;
        a->y += dt * a->vy;
        a->z += dt * a->vz;
    }
}

static double energy(void) {
    double sum = 0;
    for (struct body *a = bodies; a < bodies + BODIES; a++) {
        sum += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (struct body *b = a + 1; b < bodies + BODIES; b++) {
            double dx = b->x - a->x, dy = b->y - a->y, dz = b->z - a->z;
            sum -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz + 0.01);
        }
    }
    return sum;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 300, 580000), state = 0x13198a2e03707344u;
    for (struct body *a = bodies; a < bodies + BODIES; a++) {
        double *fields = &a->x;
        for (int i = 0; i < 6; i++)
            fields[i] = 2 * random_unit(&state) - 1;
        a->mass = 0.25 + random_unit(&state);
    }
    u64 sum = bits_of(energy());
    for (u64 step = 1; step <= size; step++) {
        drift(0.0005);
        attract(0.001);
        drift(0.0005);
        if (step % 100 == 0)
            sum = mix(sum, bits_of(energy()));
    }
    for (struct body *a = bodies; a < bodies + BODIES; a++)
        sum = mix(mix(mix(sum, bits_of(a->x)), bits_of(a->vy)), bits_of(a->vz));
    return result("nbody", size, sum);
}
