/* primes N: counts the primes below N by the sieve of Eratosthenes, in memory that it asks for. */
#include "user.h"

int main(int argc, char **argv) {
    long limit = argc == 2 ? number_of(argv[1]) : -1;
    u8 *composite = limit >= 0 ? grow((u64)limit) : (void *)-1;
    if (composite == (void *)-1) {
        print("primes: it takes a number that there is memory for\n");
        return 1;
    }
    long count = 0;
    for (long i = 2; i < limit; i++) {
        if (composite[i])
            continue;
        count++;
        for (long multiple = i * i; multiple < limit; multiple += i)
            composite[multiple] = 1;
    }
    print("%ld primes below %ld\n", count, limit);
    return 0;
}
