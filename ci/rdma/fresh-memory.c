/*
 * Whether memory that is mapped anew is empty when a thread unmapped, and another populated, the 2 MiB around it.
 * A user-mode-linux without uml-pgalloc.h, which says why, fails here in half of the rounds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, NEIGHBOUR = 16 * PAGE, LARGE = 64 << 20, ROUNDS = 80 };

static char *start; /* of a range of page tables: the neighbour's pages, and from there the large mapping */
static sem_t unmapping, populated, looked, gone;
static int round_;

static char *map(char *at, size_t length, int flags)
{
	char *mapped = mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (mapped == MAP_FAILED)
		err(2, "mmap");
	return mapped;
}

/* It runs as soon as its timer tells and the other thread is out of munmap, which that has yet to return from. */
static void *neighbour(void *unused)
{
	struct sched_param urgent = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &urgent))
		err(2, "sched_setscheduler");
	for (;;) {
		sem_wait(&unmapping);
		nanosleep(&(struct timespec){ .tv_nsec = round_ % 40 * 100000 }, NULL);
		map(start, NEIGHBOUR, MAP_FIXED | MAP_POPULATE);
		sem_post(&populated);
		sem_wait(&looked);
		munmap(start, NEIGHBOUR);
		sem_post(&gone);
	}
	return unused;
}

int main(void)
{
	cpu_set_t one;
	pthread_t thread;
	int not_empty = 0;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		err(2, "sched_setaffinity");
	start = map(NULL, 2 * LARGE, 0);
	munmap(start, 2 * LARGE);
	start += LARGE / 2 - (size_t)start % (LARGE / 2);
	if (pthread_create(&thread, NULL, neighbour, NULL))
		errx(2, "pthread_create");

	for (; round_ < ROUNDS; round_++) {
		char *large = map(start + NEIGHBOUR, LARGE, MAP_FIXED | MAP_POPULATE);

		large[0] = 1;
		sem_post(&unmapping);
		munmap(large, LARGE);
		sem_wait(&populated);
		map(large, PAGE, MAP_FIXED);
		not_empty += large[0] != 0;
		munmap(large, PAGE);
		sem_post(&looked);
		sem_wait(&gone);
	}
	printf("new memory was not empty in %d of %d rounds\n", not_empty, ROUNDS);
	return not_empty != 0;
}
