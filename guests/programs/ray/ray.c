/* ray: a size x size picture of mirror balls over a chequered floor, traced in single precision. */
#include "guest.h"

enum { BALLS = 9, BOUNCES = 4 };

struct vector {
    float x, y, z;
};

struct ball {
    struct vector centre;
    float radius, shade, mirror;
};

static struct ball balls[BALLS];
static const struct vector light = {-0.48f, 0.80f, -0.36f};

static struct vector along(struct vector from, float t, struct vector way) {
    return (struct vector){from.x + t * way.x, from.y + t * way.y, from.z + t * way.z};
}

static float dot(struct vector a, struct vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

static struct vector unit(struct vector v) {
    float scale = 1.0f / __builtin_sqrtf(dot(v, v));
    return (struct vector){v.x * scale, v.y * scale, v.z * scale};
}

/* The distance to the nearest ball on the ray, and which; a huge distance when there is none. */
static float nearest(struct vector from, struct vector way, int *which) {
    float best = 1e30f;
    for (int i = 0; i < BALLS; i++) {
        struct vector to = along(balls[i].centre, -1.0f, from);
        float middle = dot(to, way);
        float inside = balls[i].radius * balls[i].radius - dot(to, to) + middle * middle;
        if (middle <= 0 || inside <= 0)
            continue;
        float distance = middle - __builtin_sqrtf(inside);
        if (distance > 1e-3f && distance < best) {
            best = distance;
            *which = i;
        }
    }
    return best;
}

static float lit(struct vector at, struct vector normal) {
    int which;
    float amount = dot(normal, light);
    return amount <= 0 || nearest(at, light, &which) < 1e29f ? 0.1f : 0.1f + 0.9f * amount;
}

static float trace(struct vector from, struct vector way, int bounces) {
    int which = -1;
    float distance = nearest(from, way, &which);
    float floor = way.y < -1e-4f ? -from.y / way.y : 1e30f;
    if (floor < distance) {
        struct vector at = along(from, floor, way);
        int cell = ((int)(at.x + 1000.0f) ^ (int)(at.z + 1000.0f)) & 1;
        float fog = 1.0f / (1.0f + 0.02f * floor);
        return lit(at, (struct vector){0, 1, 0}) * (cell ? 0.9f : 0.3f) * fog;
    }
    if (which < 0)
        return 0.5f + 0.5f * way.y;
    const struct ball *ball = &balls[which];
    struct vector at = along(from, distance, way);
    struct vector normal = unit(along(at, -1.0f, ball->centre));
    float colour = ball->shade * lit(at, normal);
    if (bounces == 0)
        return colour;
    struct vector mirrored = along(way, -2.0f * dot(way, normal), normal);
    return colour * (1.0f - ball->mirror) + ball->mirror * trace(at, mirrored, bounces - 1);
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 20, 880), sum = 0, state = 0xa4093822299f31d0u;
    for (int i = 0; i < BALLS; i++) {
        float radius = 0.4f + (float)random_unit(&state) * 0.6f;
        balls[i].radius = radius;
        balls[i].centre = (struct vector){(float)(i % 3 - 1) * 2.0f, radius, 4.0f + (float)(i / 3) * 2.0f};
        balls[i].shade = 0.3f + (float)random_unit(&state) * 0.7f;
        balls[i].mirror = (float)random_unit(&state) * 0.8f;
    }
    float scale = 2.0f / (float)size;
    for (u64 row = 0; row < size; row++) {
        u32 in_row = 0;
        for (u64 column = 0; column < size; column++) {
            struct vector way = {(float)column * scale - 1.0f, 0.6f - (float)row * scale, 1.5f};
            float colour = trace((struct vector){0, 1.5f, -2.0f}, unit(way), BOUNCES);
            sum = mix(sum, bits_of_float(colour));
            in_row += (u32)(colour * 255.0f);
        }
        sum = mix(sum, in_row);
    }
    return result("ray", size, sum);
}
