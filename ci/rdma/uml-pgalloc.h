/*
 * ci/rdma/kernel appends this to arch/um/include/asm/pgalloc.h of the user-mode-linux that it builds, and has tlb.c
 * unmap whole entries. It keeps programs of several threads from reaching memory that is no longer theirs;
 * fresh-memory.c shows what happens without.
 *
 * When the last mapping of 2 MiB (1 GiB) ends, pmd_clear (pud_clear) marks the empty entry _PAGE_NEEDSYNC, and what was
 * in use of it is noted: before the program goes on, um_tlb_sync is to have the host unmap that. The host's old
 * mappings stay, and reach pages that the kernel has given to others since, if meanwhile another thread
 * - maps something there that has its pages at once, like an RDMA device's queues: *_populate overwrites the entry,
 *   mark and all. So what is marked hands its mark on to every entry of its new table.
 * - returns to the program when only a first part is noted, as of 9,700 pages or more: um_tlb_sync unmaps that and
 *   clears the mark, and the rest, once noted, appears to be in sync. So it unmaps all that is below the entry.
 */
#ifndef MSGR_UML_PGALLOC_H
#define MSGR_UML_PGALLOC_H

static inline void pmd_populate_in_sync(struct mm_struct *mm, pmd_t *pmd, pgtable_t page)
{
	pte_t *table = page_address(page);

	for (int i = 0; pmd_needsync(*pmd) && i < PTRS_PER_PTE; i++)
		table[i] = pte_mkneedsync(table[i]);
	pmd_populate(mm, pmd, page);
}
#undef pmd_populate
#define pmd_populate pmd_populate_in_sync

static inline void pud_populate_in_sync(struct mm_struct *mm, pud_t *pud, pmd_t *table)
{
	for (int i = 0; pud_needsync(*pud) && i < PTRS_PER_PMD; i++)
		pmd_clear(&table[i]);
	pud_populate(mm, pud, table);
}
#undef pud_populate
#define pud_populate pud_populate_in_sync

#endif
