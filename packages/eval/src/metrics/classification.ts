/**
 * LongBench's `classification_score`: 1 over the number of class names in the answer, if the right one is among them.
 * Names that are part of the right one are left out, but the name that follows such a name in the list escapes the
 * check: the original removes from the list that it walks over, and this walk does the same.
 *
 * @param classes all class names of the task
 * @returns 0 to 1
 */
export function classification(
  prediction: string,
  reference: string,
  classes: readonly string[],
): number {
  const found = classes.filter((name) => prediction.includes(name));
  for (const name of found) {
    if (reference.includes(name) && name !== reference) found.splice(found.indexOf(name), 1);
  }
  return found.includes(reference) ? 1 / found.length : 0;
}
