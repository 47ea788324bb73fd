import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** The file next to the bundles that names the sources they were built from. */
const DIGEST_FILE = 'dist/sources.sha256';

/**
 * Returns the SHA-256 (hex) of the product's code in `root` as the compiler emits it, without comments, and of the packages
 * that are bundled. A change of a comment keeps it.
 */
export function sourceDigest(root: string): string {
  const out = mkdtempSync(join(tmpdir(), 'chatops-sources-'));
  try {
    execFileSync(
      resolve(root, 'node_modules/.bin/tsc'),
      ['--project', 'tsconfig.build.json', '--outDir', out, '--removeComments'],
      { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] },
    );
    const hash = createHash('sha256');
    const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: object };
    hash.update(JSON.stringify(dependencies));
    for (const file of globSync('**/*.js', { cwd: out }).sort())
      hash.update(`${file}\n${readFileSync(join(out, file), 'utf8')}\n`);
    return hash.digest('hex');
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** Throws an Error if `dist/` was built from other sources than those in `root`. */
export function requireCurrentBundles(root: string): void {
  let built: string;
  try {
    built = readFileSync(join(root, DIGEST_FILE), 'utf8').trim();
  } catch {
    built = '';
  }
  if (built !== sourceDigest(root))
    throw new Error(
      'dist/ is stale: it was built from other sources than those here. Run "make build", then the tests again.',
    );
}

if (import.meta.main) writeFileSync(DIGEST_FILE, `${sourceDigest('.')}\n`);
