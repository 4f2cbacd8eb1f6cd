/* filter: sound in 16-bit samples through low-pass, band-pass and echo filters, in single precision. */
#include "guest.h"

enum { TAPS = 24, ECHO = 512, BLOCK = 256 };

struct resonator {
    float b0, b1, b2, a1, a2, d1, d2;
};

static struct resonator cascade[3] = {
    {0.067f, 0.135f, 0.067f, -1.143f, 0.413f, 0, 0},
    {0.245f, 0.0f, -0.245f, -0.872f, 0.509f, 0, 0},
    {0.391f, -0.782f, 0.391f, -0.370f, 0.196f, 0, 0},
};
static float taps[TAPS];
static float history[TAPS + BLOCK];
static float echo[ECHO];
static i16 samples[BLOCK];

static float resonate(struct resonator *r, float in) {
    float out = r->b0 * in + r->d1;
    r->d1 = r->b1 * in - r->a1 * out + r->d2;
    r->d2 = r->b2 * in - r->a2 * out;
    return out;
}

static float convolve(const float *newest) {
    float sum = 0;
    for (int k = 0; k < TAPS; k++)
        sum += taps[k] * newest[-k];
    return sum;
}

static i16 quantised(float value) {
    float scaled = value * 32767.0f;
    if (scaled > 32767.0f)
        scaled = 32767.0f;
    if (scaled < -32768.0f)
        scaled = -32768.0f;
    return (i16)scaled;
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 12, 9300), sum = 0, state = 0x082efa98ec4e6c89u;
    for (int k = 0; k < TAPS; k++)
        taps[k] = (float)(k < TAPS / 2 ? k + 1 : TAPS - k) / 156.0f;
    u32 phase = 0, at = 0;
    for (u64 block = 0; block < size; block++) {
        memcpy(history, history + BLOCK, TAPS * sizeof(float));
        for (int i = 0; i < BLOCK; i++) {
            phase += 0x02800000u + (u32)(block << 16);
            i32 saw = (i32)phase >> 17, noise = (i32)random_bits(&state) >> 20;
            history[TAPS + i] = (float)(saw + noise) * (1.0f / 32768.0f);
        }
        for (int i = 0; i < BLOCK; i++) {
            float value = convolve(history + TAPS + i);
            for (u32 r = 0; r < LENGTH(cascade); r++)
                value += 0.5f * resonate(&cascade[r], value);
            value += 0.4f * echo[at];
            echo[at] = value;
            at = (at + 1) % ECHO;
            samples[i] = quantised(value);
        }
        for (int i = 0; i < BLOCK; i++)
            sum = mix(sum, (u16)samples[i]);
    }
    return result("filter", size, mix(sum, bits_of_float(echo[at])));
}
