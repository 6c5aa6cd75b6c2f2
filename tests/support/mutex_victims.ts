/** Where the processes of tests/fixtures/mutex_victim.ts have which mutex; the one that they are killed with is at 0. */
export const MUTEX_WORDS = 16;
export const OUTER = [256, 320] as const;
export const SCRATCH = 384;
