import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const dir = mkdtempSync(join(tmpdir(), 'chatops-unused-'));
afterAll(() => rmSync(dir, { recursive: true }));
const write = (path: string, text: string): void => writeFileSync(join(dir, path), text);
const knip = () => {
  const { status, stdout, stderr } = spawnSync(resolve('node_modules/.bin/knip'), ['--no-progress'], {
    cwd: dir,
    encoding: 'utf8',
  });
  return { status, out: stdout + stderr };
};

it('knip reports an unused file, export and package, and passes without them', () => {
  copyFileSync('knip.jsonc', join(dir, 'knip.jsonc'));
  mkdirSync(join(dir, 'action'));
  write('package.json', '{ "type": "module", "dependencies": { "left-pad": "1.3.0" } }');
  write('action/main.ts', "import { used } from './used.ts';\nused();\n");
  write('action/used.ts', 'export const used = (): number => 1;\nexport const spare = 2;\n');
  write('action/orphan.ts', 'export const alone = 1;\n');
  const failing = knip();
  expect(failing.status, failing.out).toBe(1);
  expect(failing.out).toMatch(/Unused files \(1\)\naction\/orphan\.ts/);
  expect(failing.out).toMatch(/Unused dependencies \(1\)\nleft-pad +package\.json/);
  expect(failing.out).toMatch(/Unused exports \(1\)\nspare +action\/used\.ts:2:14/);

  rmSync(join(dir, 'action/orphan.ts'));
  write('action/used.ts', 'export const used = (): number => 1;\n');
  write('package.json', '{ "type": "module" }');
  const passing = knip();
  expect(passing.status, passing.out).toBe(0);
});
