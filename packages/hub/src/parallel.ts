/**
 * Works through a list, several items at a time. The first failure stops the rest; it is thrown when all are at rest,
 * so that nothing still writes.
 * @param stop aborted at the first failure
 */
export async function inParallel<T>(
  items: readonly T[],
  concurrency: number,
  stop: AbortController,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (stop.signal.aborted) return;
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  if (failures.length > 0) throw failures[0];
  stop.signal.throwIfAborted();
}
