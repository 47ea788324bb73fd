import { describe, expect, it } from 'vitest';
import { generateKey, readSecretKey } from '../../protocol/keys.ts';
import { planOf } from '../../test/stand/steps.ts';
import { digestOfPlans } from './digest.ts';
import type { PrepareMountsStep } from './plan.ts';

const KEY = readSecretKey(generateKey().secret);
const prepare = (sha256: string, file = '/runs/a/compose-1/next.json'): PrepareMountsStep => ({
  do: 'prepare-mounts',
  name: 'prepare mounts',
  config: { file, sha256 },
  mounts: [],
  project: { dir: '/srv/stacks/web' },
  nested: false,
});
const digestOf = (step: PrepareMountsStep, key = KEY) => {
  const intent = { action: 'rollout', stack: 'web' } as const;
  const intents = [{ name: 'up', document: 1, documents: 1, intent }];
  return digestOfPlans({ intents, files: [] } as Parameters<typeof digestOfPlans>[0], [planOf([step])], key);
};

describe('the digest of a plan', () => {
  it('covers the content of the checked config, but not its place in the run’s folder', () => {
    expect(digestOf(prepare('a'))).not.toBe(digestOf(prepare('b')));
    expect(digestOf(prepare('a', '/runs/b/compose-1/next.json'))).toBe(digestOf(prepare('a')));
  });

  it('does not show the config’s hash to a reader without the agent’s key: it has the values of secrets', () => {
    expect(digestOf(prepare('a'), readSecretKey(generateKey().secret))).not.toBe(digestOf(prepare('a')));
  });
});
