import { describe, expect, it } from 'vitest';
import { isUnder } from '../../plan/paths.ts';
import { createContext } from '../exam.ts';
import type { Intent } from '../executor.ts';
import { isSupportedCompose, listStackClaims, type StackIntent } from './target.ts';

describe('the claim of a switch file', () => {
  it.each([
    ['a relative one', 'upstream.conf', '/opt/stacks/web'],
    ['one in the folder of the stack', '/opt/stacks/web/proxy/x', '/opt/stacks/web'],
    ['one in a folder of agent.yaml', '/opt/stacks/proxy/dynamic/web.yml', '/opt/stacks/proxy/dynamic'],
    ['one in a folder of agent.yaml outside of stacks', '/etc/traefik/web.yml', '/etc/traefik'],
    ['one of another stack', '/opt/stacks/vault/compose.yaml', undefined],
    ['one next to a folder of agent.yaml', '/opt/stacks/proxy/compose.yaml', undefined],
    ['one of a stack with a similar name', '/opt/stacks/web2/x', undefined],
  ])('holds %s only in its folders', (_, file, root) => {
    const intent: Intent = { action: 'rollout', stack: 'web', strategy: 'blue-green', switch: { file, text: 'x' } };
    const { site } = createContext(intent, {
      site: { switchFoldersOf: stack => (stack === 'web' ? ['/opt/stacks/proxy/dynamic', '/etc/traefik'] : []) },
    });
    const claim = listStackClaims(intent as StackIntent, site).at(-1);
    expect(claim && isUnder(claim.path, claim.root) ? claim.root : undefined).toBe(root);
  });
});

it.each<[string, boolean | undefined]>([
  ['2.25.9', false],
  ['v2.25.99-desktop.1', false],
  ['1.29.2', false],
  ['2.26.0', true],
  ['2.26.1-4\n', true],
  ['v2.40.3', true],
  ['2.100.0', true],
  ['5.0.0', true],
  ['3.0', true],
  ['', undefined],
  ['docker: unknown command', undefined],
])('Docker Compose %j is supported: %s', (version, isSupported) => {
  expect(isSupportedCompose(version)).toBe(isSupported);
});
