/*
 * Whether memory that a thread unmapped or discarded is empty when it is used again, although another thread went on,
 * and populated the 2 MiB that it begins in. A user-mode-linux without uml-pgalloc.h, which says why, fails here.
 */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, NEIGHBOUR = 16 * PAGE, TABLE = 2 << 20, LARGE = 64 << 20, ROUNDS = 80 };

static char *start; /* of a range of page tables: the neighbour's pages, and from there the large mapping */
static sem_t releasing, populated, looked, gone;
static int round_;

static char *map(char *at, size_t length, int flags)
{
	char *mapped = mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (mapped == MAP_FAILED)
		err(2, "mmap");
	return mapped;
}

/* It runs as soon as its timer tells and the other thread gives way in the kernel, before that returns from there. */
static void *neighbour(void *unused)
{
	struct sched_param urgent = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &urgent))
		err(2, "sched_setscheduler");
	for (;;) {
		sem_wait(&releasing);
		nanosleep(&(struct timespec){ .tv_nsec = round_ % 40 * 100000 }, NULL);
		map(start, NEIGHBOUR, MAP_FIXED | MAP_POPULATE);
		sem_post(&populated);
		sem_wait(&looked);
		munmap(start, NEIGHBOUR);
		sem_post(&gone);
	}
	return unused;
}

static int discard(void *from, size_t length)
{
	return madvise(from, length, MADV_DONTNEED);
}

static int look(const char *what, int (*release)(void *, size_t), char *page)
{
	int not_empty = 0;

	for (round_ = 0; round_ < ROUNDS; round_++) {
		char *large = map(start + NEIGHBOUR, LARGE, MAP_FIXED | MAP_POPULATE);

		*page = 1;
		sem_post(&releasing);
		if (release(large, LARGE))
			err(2, "%s", what);
		sem_wait(&populated);
		map(page, PAGE, MAP_FIXED);
		not_empty += *page != 0;
		munmap(large, LARGE);
		sem_post(&looked);
		sem_wait(&gone);
	}
	printf("%s memory was not empty in %d of %d rounds\n", what, not_empty, ROUNDS);
	return not_empty;
}

int main(void)
{
	cpu_set_t one;
	pthread_t thread;
	int not_empty;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		err(2, "sched_setaffinity");
	start = map(NULL, 2 * LARGE, 0);
	munmap(start, 2 * LARGE);
	start += LARGE / 2 - (size_t)start % (LARGE / 2);
	if (pthread_create(&thread, NULL, neighbour, NULL))
		errx(2, "pthread_create");

	not_empty = look("unmapped", munmap, start + NEIGHBOUR);
	/* When the kernel pauses, after some 9,700 pages, it has discarded most of this page's table, but not this page. */
	not_empty += look("discarded", discard, start + 19 * TABLE - PAGE);
	return not_empty != 0;
}
