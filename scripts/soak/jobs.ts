import { churnJobs } from "./churn_jobs.ts";
import { countingJobs } from "./counting_jobs.ts";
import type { Job } from "./job.ts";
import { semaphoreJobs } from "./semaphore_jobs.ts";

/** What a worker does, of which {@linkcode Word.Job} is the index. */
export const jobs: readonly Job[] = [...countingJobs, ...churnJobs, ...semaphoreJobs];
