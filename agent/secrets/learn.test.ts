import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { planOf } from '../../test/stand/steps.ts';
import type { HostReader, PrepareMountsStep, RenderedStack } from '../plan/plan.ts';
import { blindHostReader } from '../system/host-reader.ts';
import { Redactor } from '../system/redactor.ts';
import { addPlanSecrets, learningReader } from './learn.ts';

const NAMES = { shown: [], hidden: [] };
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-learn-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A config with a secret in a variable, and another in a file. */
function makeConfig() {
  writeFileSync(join(dir, 'secret.txt'), 'from-the-file\n');
  return {
    name: 'shop',
    services: { web: { environment: { API_TOKEN: 'from-rendering' } } },
    secrets: { one: { file: join(dir, 'secret.txt') } },
  };
}
const renderedOf = (config: ReturnType<typeof makeConfig>): RenderedStack => ({
  ...{ file: '', sha256: '', project: 'shop', config },
  ...{ profiles: [], sources: [], mounts: [], warnings: [], variants: {} },
});

const TEXT = 'from-rendering, from-the-file';
const REDACTED = `${'*'.repeat(14)}, ${'*'.repeat(13)}`;

describe('the secrets that only a rendered config has', () => {
  it('are learned when a plan renders it', async () => {
    const redactor = new Redactor();
    const host: HostReader = { ...blindHostReader, render: async () => renderedOf(makeConfig()) };
    await learningReader(host, redactor, NAMES).render({
      stack: 'shop',
      dir,
      overlay: {},
      as: join(dir, 'checked.json'),
    });
    expect(redactor.sentence(TEXT)).toBe(REDACTED);
  });

  it('are learned from the config of a plan that an earlier agent made', async () => {
    const redactor = new Redactor();
    const file = join(dir, 'checked.json');
    writeFileSync(file, JSON.stringify(makeConfig()));
    const stepOf = (config: string): PrepareMountsStep => ({
      ...{ do: 'prepare-mounts', name: 'prepare', project: { dir }, mounts: [], nested: false },
      config: { file: config, sha256: '' },
    });
    const plan = planOf([stepOf(file)], { undo: [stepOf(join(dir, 'gone.json'))] });
    await addPlanSecrets(redactor, plan, NAMES);
    expect(redactor.sentence(TEXT)).toBe(REDACTED);
  });
});
