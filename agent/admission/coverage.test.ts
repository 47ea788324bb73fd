import { describe, expect, it } from 'vitest';
import type { Deployment } from '../../protocol/command.ts';
import { Refused } from '../../protocol/refusal.ts';
import { command, LABELLED } from '../../test/stand/signer.ts';
import type { TrustEntry } from '../config/trust.ts';
import type { LastDeployment } from '../store/deployments.ts';
import { checkCoverage, deployedKeys, lastDeployments } from './coverage.ts';

const [NOW, LAST, OTHER] = ['a', 'b', 'c'].map(letter => letter.repeat(40)) as [string, string, string];
const ROLLOUT = { action: 'rollout', stack: 'web', source_dir: 'stacks/web' } as const;
const entry = { allow: [{ name: 'strict' }, { allow_older: true }] } as unknown as TrustEntry;
const cover = { name: 'test', stack: 'web', since: LAST, commits: [{ sha: NOW, pull_request: 1 }] };

function codeOf(changes: Partial<Deployment>, last: string | null = LAST, rules = ['strict']): string {
  const stored: LastDeployment | undefined = last === null ? undefined : { sha: last, at: '', isFirst: false };
  try {
    checkCoverage(command([ROLLOUT], changes), entry, rules, { last: () => stored });
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
  return 'admitted';
}

describe('the coverage of a command', () => {
  it.each<[string, Partial<Deployment>, string]>([
    ['begins at the last deployment', { covers: [cover] }, 'admitted'],
    ['is absent', {}, 'coverage-missing'],
    ['is of another document', { covers: [{ ...cover, name: 'other' }] }, 'coverage-missing'],
    ['is of another stack', { covers: [{ ...cover, stack: 'other' }] }, 'coverage-missing'],
    ['begins elsewhere', { covers: [{ ...cover, since: OTHER }] }, 'deployed-meanwhile'],
    ['is that of a first deployment', { covers: [{ ...cover, since: null }] }, 'deployed-meanwhile'],
    [
      'names a pull request without evidence',
      { covers: [{ ...cover, commits: [{ sha: NOW, pull_request: 2 }] }] },
      'coverage-missing',
    ],
    [
      'names a further pull request of the evidence',
      {
        covers: [{ ...cover, commits: [{ sha: NOW, pull_request: 2 }] }],
        approval: { ...LABELLED, with: [{ ...LABELLED, pull_request: 2 }] },
      },
      'admitted',
    ],
    ['begins at the last deployment, without evidence', { covers: [cover], approval: null }, 'admitted'],
    ['is absent in a plan', { type: 'plan' }, 'admitted'],
    ['is absent in a dry run', { dry_run: true }, 'admitted'],
    ['is absent in an undo', { undo: { run: 'run-00001', documents: [1] } }, 'admitted'],
  ])('%s: %s', (_, changes, code) => {
    expect(codeOf(changes)).toBe(code);
  });

  it('is not needed for the commit that was deployed last, for the first one, and without a commit', () => {
    expect(codeOf({}, NOW)).toBe('admitted');
    expect(codeOf({}, null)).toBe('admitted');
    const { origin } = command([ROLLOUT]);
    expect(deployedKeys(command([ROLLOUT], { origin: { ...origin, sha: '0'.repeat(40) } }))).toEqual([]);
  });

  it('is replaced by allow_older only if the rule of each document has it', () => {
    const older: Partial<Deployment> = { allow_older: true };
    expect(codeOf(older, LAST, ['allow.2'])).toBe('admitted');
    expect(codeOf(older, LAST, ['allow.2', 'strict'])).toBe('older-not-allowed');
  });
});

describe('the answer about last deployments', () => {
  it('has the commit of each document, or null, in their order', () => {
    const documents = ['known', 'new'].map(name => ({ name, stack: 'web' }));
    const last = ({ intent }: { intent: string }) =>
      intent === 'known' ? { sha: LAST, at: '2026-11-20T12:00:00Z', isFirst: false } : undefined;
    expect(lastDeployments(documents, 'org/homelab', { last })).toEqual([
      { since: LAST, at: '2026-11-20T12:00:00Z', isFirst: false },
      { since: null, at: null, isFirst: true },
    ]);
  });
});
