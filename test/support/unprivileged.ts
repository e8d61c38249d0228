// Root reads what nobody may read.

/** Runs `work` as a user who is not root, where this process can. What it imports must be loaded already. */
export async function unprivileged<T>(work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.seteuid!(65534);
  try {
    return await work();
  } finally {
    process.seteuid!(0);
  }
}
