// A pool of threads, as C++ programs have them: a queue with a condition variable, futures, atomics, a shared mutex,
// call_once, thread-local storage, exceptions that cross threads. What it prints depends on no turn.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <numeric>
#include <queue>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

class Pool {
public:
    explicit Pool(int count) {
        for (int i = 0; i < count; i++)
            threads.emplace_back([this] { work(); });
    }

    ~Pool() {
        {
            std::lock_guard guard(lock);
            over = true;
        }
        more.notify_all();
        for (auto &thread : threads)
            thread.join();
    }

    template <class F> auto submit(F body) {
        auto task = std::make_shared<std::packaged_task<decltype(body())()>>(std::move(body));
        auto result = task->get_future();
        {
            std::lock_guard guard(lock);
            tasks.push([task] { (*task)(); });
        }
        more.notify_one();
        return result;
    }

private:
    void work() {
        for (;;) {
            std::function<void()> task;
            {
                std::unique_lock guard(lock);
                more.wait(guard, [this] { return over || !tasks.empty(); });
                if (tasks.empty())
                    return;
                task = std::move(tasks.front());
                tasks.pop();
            }
            task();
        }
    }

    std::vector<std::thread> threads;
    std::queue<std::function<void()>> tasks;
    std::mutex lock;
    std::condition_variable more;
    bool over = false;
};

static uint64_t scrambled(uint64_t x) {
    x ^= x >> 33, x *= 0xff51afd7ed558ccdULL, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

// Parts are sorted by tasks of their own, and merged two by two.
static uint64_t sorted(Pool &pool, size_t size) {
    std::vector<uint64_t> numbers(size);
    for (size_t i = 0; i < size; i++)
        numbers[i] = scrambled(i);
    size_t parts = 16, part = size / parts;
    std::vector<std::future<void>> waits;
    for (size_t i = 0; i < parts; i++)
        waits.push_back(pool.submit([&numbers, i, part] {
            std::sort(numbers.begin() + i * part, numbers.begin() + (i + 1) * part);
        }));
    for (auto &each : waits)
        each.get();
    for (size_t width = part; width < size; width *= 2) {
        waits.clear();
        for (size_t at = 0; at + width < size; at += 2 * width)
            waits.push_back(pool.submit([&numbers, at, width] {
                auto begin = numbers.begin() + at;
                std::inplace_merge(begin, begin + width, begin + 2 * width);
            }));
        for (auto &each : waits)
            each.get();
    }
    uint64_t sum = std::is_sorted(numbers.begin(), numbers.end());
    for (size_t i = 0; i < size; i += 997)
        sum = sum * 31 + numbers[i];
    return sum;
}

// Readers and a few writers of one table.
static long shared_table(Pool &pool, int tasks) {
    std::shared_mutex lock;
    std::map<int, long> table;
    std::vector<std::future<long>> results;
    for (int i = 0; i < tasks; i++)
        results.push_back(pool.submit([&lock, &table, i]() -> long {
            if (i % 8 == 0) {
                std::unique_lock guard(lock);
                return table[i % 64] += i, 0;
            }
            std::shared_lock guard(lock);
            auto found = table.find(i % 64 / 8 * 8);
            return found == table.end() || found->second >= 0 ? 1 : 1000000;
        }));
    long sum = 0;
    for (auto &each : results)
        sum += each.get();
    return std::accumulate(table.begin(), table.end(), sum, [](long all, auto &row) { return all + row.second; });
}

int main(int argc, char **argv) {
    int scale = argc > 1 ? std::atoi(argv[1]) : 1;
    std::atomic<long> added{0}, most{0};
    std::atomic<double> real{0};
    std::once_flag once;
    int first = 0;
    thread_local long mine = 0;
    {
        Pool pool(4);
        std::printf("sorted %016llx\n", (unsigned long long)sorted(pool, size_t(scale) << 15));
        std::vector<std::future<long>> results;
        for (int i = 0; i < 400 * scale; i++)
            results.push_back(pool.submit([&, i] {
                std::call_once(once, [&first] { first++; });
                added.fetch_add(i, std::memory_order_relaxed);
                long seen = most.load();
                while (seen < i && !most.compare_exchange_weak(seen, i))
                    continue;
                for (double old = real; !real.compare_exchange_weak(old, old + 0.5);)
                    continue;
                if (i % 100 == 99)
                    throw std::runtime_error(std::to_string(i));
                return ++mine;
            }));
        long thrown = 0, runs = 0;
        for (auto &each : results)
            try {
                runs += each.get() > 0;
            } catch (const std::runtime_error &error) {
                thrown += std::atol(error.what());
            }
        std::printf("added %ld, most %ld, real %.1f, runs %ld, thrown %ld, once %d, here %ld\n", added.load(), most.load(),
                    real.load(), runs, thrown, first, mine);
        std::printf("table %ld\n", shared_table(pool, 200 * scale));
    }
    auto later = std::async(std::launch::async, [] { return std::thread::hardware_concurrency() > 0; });
    std::printf("async %d\n", later.get());
}
