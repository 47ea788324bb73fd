import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireCurrentBundles, sourceDigest } from './source-digest.ts';

describe('bundles', () => {
  let copy = '';
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), 'chatops-stale-'));
    for (const name of ['intents', 'protocol', 'client', 'action', 'agent', 'package.json'])
      cpSync(name, join(copy, name), { recursive: true });
    for (const name of ['tsconfig.json', 'tsconfig.build.json']) cpSync(name, join(copy, name));
    symlinkSync(resolve('node_modules'), join(copy, 'node_modules'));
    cpSync('dist/sources.sha256', join(copy, 'dist/sources.sha256'), { recursive: true });
  });
  afterAll(() => rmSync(copy, { recursive: true }));
  const change = (by: (text: string) => string) => {
    const file = join(copy, 'protocol/run-id.ts');
    writeFileSync(file, by(readFileSync(file, 'utf8')));
  };

  it('are those of the sources', () => {
    expect(() => requireCurrentBundles(copy)).not.toThrow();
  });

  it('stay current if only a comment changes', () => {
    const before = sourceDigest(copy);
    change(text => `// A comment.\n${text}`);
    expect(sourceDigest(copy)).toBe(before);
  });

  it('are refused as stale if code changes', () => {
    change(text => `${text}\nexport const ADDED = 1;\n`);
    expect(() => requireCurrentBundles(copy)).toThrow('dist/ is stale');
  });

  it('are refused as stale if no build has named its sources', () => {
    rmSync(join(copy, 'dist/sources.sha256'));
    expect(() => requireCurrentBundles(copy)).toThrow('Run "make build"');
  });
});
