/**
 * Returns a function that calls `read` at most once per `ms` milliseconds after its last answer. Callers in between share
 * that answer, also while it is being made.
 */
export function cacheRead<T>(ms: number, read: () => Promise<T>, now = () => performance.now()): () => Promise<T> {
  let last: Promise<T> | undefined;
  let until = 0;
  return () => {
    if (last && now() < until) return last;
    until = Number.POSITIVE_INFINITY;
    last = read().finally(() => {
      until = now() + ms;
    });
    return last;
  };
}
