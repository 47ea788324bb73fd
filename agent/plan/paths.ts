/**
 * Returns true if the absolute path is `root` or below it, once `.` and `..` are resolved. Reads nothing of the host: links
 * are found by system/safe-paths.ts.
 */
export function isUnder(path: string, root: string): boolean {
  // A relative path may climb above its unknown start.
  if (!path.startsWith('/') || !root.startsWith('/')) return false;
  const segments = segmentsOf(path);
  return segmentsOf(root).every((segment, index) => segment === segments[index]);
}

/** Returns the nearest root that holds the path. If none does, returns one that {@link isUnder} refuses for it. */
export function findRoot(path: string, roots: string[]): string {
  const holding = roots.filter(root => isUnder(path, root)).sort((a, b) => segmentsOf(b).length - segmentsOf(a).length);
  return holding[0] ?? roots[0] ?? '/nowhere';
}

function segmentsOf(path: string): string[] {
  const segments: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  return segments;
}
