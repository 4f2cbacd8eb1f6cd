/* What a process sees of itself below /proc, said so that it is the same for any Linux. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[1 << 16];

static int by_number(const struct dirent **a, const struct dirent **b) {
    return atoi((*a)->d_name) - atoi((*b)->d_name);
}

static void list(const char *name) {
    struct dirent **found;
    int count = scandir(name, &found, 0, by_number);
    printf("%s:", strstr(name, "task") ? "task" : name);
    for (int i = 0; i < count; i++)
        printf(" %s/%d", atoi(found[i]->d_name) == getpid() ? "self" : found[i]->d_name, found[i]->d_type);
    printf(count < 0 ? " %s\n" : "\n", strerror(errno));
}

static const char *word(const char *line, int number) {
    static char found[256];
    for (; number && *line; number--) {
        line += strcspn(line, " ");
        line += strspn(line, " ");
    }
    snprintf(found, sizeof found, "%.*s", (int)strcspn(line, " \n"), line);
    return found;
}

static void say(const char *what, long result) {
    printf("%s: %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "-");
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IONBF, 0);
    char path[64], mine[] = "mine", other[8] = "";
    int sevens = dup2(open("/dev/null", O_RDONLY), 77);
    list("/proc/self/fd");
    list("/dev/fd");
    list("/proc/self/fdinfo");
    list("/proc/self/task");
    sprintf(path, "/proc/%d/task/%d/fd", getpid(), getpid());
    list(path);
    say("a descriptor that is not there", open("/proc/self/fd/66", O_RDONLY));
    say("another's thread", open("/proc/self/task/1/fd", O_RDONLY));
    DIR *folder = opendir("/proc/self/fd");
    long places[8], count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) && count < 8;)
        places[count++] = telldir(folder);
    seekdir(folder, places[count - 3]);
    printf("from there on %s", readdir(folder)->d_name);
    printf(" %s\n", readdir(folder)->d_name);
    memset(text, 0, sizeof text);
    say("link in the folder", readlinkat(dirfd(folder), "77", text, sizeof text));
    printf("to %s\n", text);
    struct stat status;
    say("status in the folder", fstatat(dirfd(folder), "77", &status, 0));
    printf("a device %d\n", S_ISCHR(status.st_mode) && major(status.st_rdev) == 1);
    say("open in the folder", openat(dirfd(folder), "77", O_RDONLY));
    close(3 + 2);
    closedir(folder);
    say("lstat exe", lstat("/proc/self/exe", &status));
    printf("a link %d\n", S_ISLNK(status.st_mode));
    say("chdir", chdir("/proc/self"));
    memset(text, 0, sizeof text);
    say("readlink exe", readlink("exe", text, sizeof text) > 0);
    printf("it is what runs: %d\n", text[0] == '/' && strstr(text, "/proc_probe") != 0);
    list("fd");
    int maps = open("maps", O_RDONLY), found = 0;
    stat("/proc/self/exe", &status);
    text[read(maps, text, sizeof text - 1)] = 0;
    for (char *line = strtok(text, "\n"); line && !found; line = strtok(0, "\n"))
        if (strstr(line, "/proc_probe"))
            found = atol(word(line, 4)) == (long)status.st_ino;
    printf("the map has our inode %d\n", found);
    memset(text, 0, sizeof text);
    sprintf(path, "/proc/self/fd/%d", maps);
    readlink(path, text, sizeof text);
    sprintf(path, "/proc/%d/maps", getpid());
    printf("an open map is called so %d\n", !strcmp(text, path));
    close(maps);
    say("write where we run", open("exe", O_WRONLY));
    say("truncate what runs", truncate("exe", 0));
    int memory = open("mem", O_RDWR);
    printf("memory is open %d\n", memory > 2);
    say("mem at 0", pread(memory, other, 4, 0));
    say("pread", pread(memory, other, 5, (off_t)mine));
    printf("read %s\n", other);
    say("lseek", lseek(memory, (off_t)mine, SEEK_SET) == (off_t)mine);
    say("write", write(memory, "your", 4));
    printf("written %s, at %d\n", mine, lseek(memory, 0, SEEK_CUR) == (off_t)mine + 4);
    char *page = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    say("write to a constant page", pwrite(memory, "constant", 9, (off_t)page));
    printf("there is %s\n", page);
    say("to its end", pread(memory, text, 100, (off_t)page + 4090));
    int reading = open("mem", O_RDONLY);
    say("write to what is open for reading", pwrite(reading, "x", 1, (off_t)mine));
    say("from nowhere", pwrite(memory, (void *)8, 1, (off_t)mine));
    close(sevens);
    int statm = open("statm", O_RDONLY);
    text[read(statm, text, 200)] = 0;
    printf("statm %d\n", atol(text) > 10 && *word(text, 6) == '0');
    int copy = open("/tmp/proc_probe.copy", O_WRONLY | O_CREAT | O_TRUNC, 0700);
    execl("/tmp/proc_probe.copy", "copy", (char *)0);
    say("execute what is open for writing", -1);
    close(copy);
    unlink("/tmp/proc_probe.copy");
    return 0;
}
