/**
 * Works on what an iterator gives, `slots` at a time, taking the next only when a slot is free.
 *
 * @throws the first failure, after what is under way has ended
 */
export async function pooled<T>(
  items: AsyncIterator<T, void>,
  slots: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  async function slot(): Promise<void> {
    while (failure === undefined) {
      try {
        const next = await items.next();
        if (next.done === true) return;
        await work(next.value);
      } catch (error) {
        failure ??= { error };
      }
    }
  }
  await Promise.all(Array.from({ length: slots }, slot));
  if (failure !== undefined) throw failure.error;
}
