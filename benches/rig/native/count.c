/* Counts the generator's frames in capture files.
 *
 *   count DIRECTORY FRAMES...     prints one JSON object
 *
 * Reads every pcap file (either resolution, this machine's byte order) under DIRECTORY. FRAMES is how many were sent:
 * their numbers run from 0 to FRAMES - 1, and each should be in one record. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frames.h"

static unsigned long sent, files, bytes, frames, inner, outer, foreign, twice, broken;
static unsigned char *seen;

static void frame(const unsigned char *data, uint32_t length)
{
    static const unsigned char inner_destination[] = {2, 0, 0, 0, 1, 2};
    int strip = -1;
    frames++;
    if (length >= INNER_HEADERS + 8 && !memcmp(data, inner_destination, 6))
        strip = 0;
    else if (length >= WRITTEN && !memcmp(data + OUTER, inner_destination, 6))
        strip = OUTER;
    uint64_t number;
    if (strip >= 0)
        memcpy(&number, data + strip + INNER_HEADERS, 8);
    if (strip < 0 || number >= sent) {
        foreign++;
        return;
    }
    *(strip ? &outer : &inner) += 1;
    if (seen[number / 8] & 1 << number % 8)
        twice++;
    seen[number / 8] |= 1 << number % 8;
}

static int file(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F || about->st_size < 24)
        return 0;
    int fd = open(path, O_RDONLY);
    const unsigned char *data = mmap(NULL, about->st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (data == MAP_FAILED)
        return 0;
    uint32_t magic;
    memcpy(&magic, data, 4);
    if (magic == 0xa1b2c3d4 || magic == 0xa1b23c4d) {
        files++;
        bytes += about->st_size;
        size_t at = 24, end = about->st_size;
        while (at + 16 <= end) {
            uint32_t length;
            memcpy(&length, data + at + 8, 4);
            if (length > end - at - 16) {
                broken++;
                break;
            }
            frame(data + at + 16, length);
            at += 16 + length;
        }
    }
    munmap((void *)data, about->st_size);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: count DIRECTORY FRAMES\n", stderr);
        return 2;
    }
    sent = strtoul(argv[2], NULL, 10);
    seen = calloc(sent / 8 + 1, 1);
    if (!seen || nftw(argv[1], file, 32, FTW_PHYS)) {
        perror(argv[1]);
        return 1;
    }
    printf("{\"files\": %lu, \"bytes\": %lu, \"frames\": %lu, \"inner\": %lu, \"outer\": %lu, \"foreign\": %lu, "
           "\"twice\": %lu, \"broken\": %lu}\n",
           files, bytes, frames, inner, outer, foreign, twice, broken);
    return 0;
}
