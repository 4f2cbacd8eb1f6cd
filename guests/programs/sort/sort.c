/* sort: quicksort, heapsort, merge sort and radix sort of the same random numbers, each checked. */
#include "guest.h"

static void swap(u32 *a, u32 *b) {
    u32 keep = *a;
    *a = *b;
    *b = keep;
}

static void insertion(u32 *v, i64 count) {
    for (i64 i = 1; i < count; i++) {
        u32 value = v[i];
        i64 j = i;
        for (; j > 0 && v[j - 1] > value; j--)
            v[j] = v[j - 1];
        v[j] = value;
    }
}

static void quick(u32 *v, i64 count) {
    while (count > 12) {
        u32 low = v[0], middle = v[count / 2], high = v[count - 1];
        u32 pivot = low < middle ? (middle < high ? middle : low < high ? high : low)
                                 : (low < high ? low : middle < high ? high : middle);
        i64 i = -1, j = count;
        for (;;) {
            while (v[++i] < pivot)
                ;
            while (v[--j] > pivot)
                ;
            if (i >= j)
                break;
            swap(&v[i], &v[j]);
        }
        quick(v + j + 1, count - j - 1);
        count = j + 1;
    }
    insertion(v, count);
}

static void sink(u32 *v, u64 at, u64 count) {
    for (;;) {
        u64 child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && v[child + 1] > v[child])
            child++;
        if (v[at] >= v[child])
            return;
        swap(&v[at], &v[child]);
        at = child;
    }
}

static void heap(u32 *v, u64 count) {
    for (u64 i = count / 2; i-- > 0;)
        sink(v, i, count);
    for (u64 left = count; left-- > 1;) {
        swap(&v[0], &v[left]);
        sink(v, 0, left);
    }
}

static int ascending(const void *a, const void *b) {
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return (x > y) - (x < y);
}

/* Bottom up, with the order given by a function, as a library sort has it. */
static void merge(u32 *v, u32 *spare, u64 count, int (*order)(const void *, const void *)) {
    for (u64 width = 1; width < count; width *= 2) {
        for (u64 start = 0; start < count; start += 2 * width) {
            u64 i = start, middle = start + width < count ? start + width : count;
            u64 j = middle, end = middle + width < count ? middle + width : count;
            for (u64 k = start; k < end; k++)
                spare[k] = j == end || (i < middle && order(&v[i], &v[j]) <= 0) ? v[i++] : v[j++];
        }
        memcpy(v, spare, count * sizeof *v);
    }
}

static void radix(u32 *v, u32 *spare, u64 count) {
    for (int shift = 0; shift < 32; shift += 8) {
        u64 starts[257] = {0};
        for (u64 i = 0; i < count; i++)
            starts[(v[i] >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++)
            starts[i + 1] += starts[i];
        for (u64 i = 0; i < count; i++)
            spare[starts[v[i] >> shift & 255]++] = v[i];
        memcpy(v, spare, count * sizeof *v);
    }
}

int main(int argc, char **argv) {
    u64 size = work_size(argc, argv, 700, 2550000), sum = 0;
    u32 *v = pages(size * sizeof *v), *spare = pages(size * sizeof *spare);
    int (*volatile order)(const void *, const void *) = ascending;
    for (int method = 0; method < 4; method++) {
        u64 state = 0xd1310ba698dfb5acu;
        for (u64 i = 0; i < size; i++)
            v[i] = (u32)(random_bits(&state) >> (i % 5 * 4));
        switch (method) {
        case 0:
            quick(v, (i64)size);
            break;
        case 1:
            heap(v, size);
            break;
        case 2:
            merge(v, spare, size, order);
            break;
        default:
            radix(v, spare, size);
        }
        for (u64 i = 0; i < size; i++) {
            if (i > 0 && v[i - 1] > v[i])
                die("not sorted");
            sum = mix(sum, v[i]);
        }
    }
    return result("sort", size, sum);
}
