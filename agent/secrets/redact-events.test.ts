import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KEEPER } from '../../test/stand/guarded.ts';
import { planOf, program } from '../../test/stand/steps.ts';
import { DockerEngine } from '../outbound/docker.ts';
import type { ProgressEvent } from '../plan/progress.ts';
import { executePlan } from '../runs/execute.ts';
import { createStepRunner } from '../steps/index.ts';
import { Redactor } from '../system/redactor.ts';
import { createOwnWords } from './own-words.ts';
import { redactEvent, redactResult } from './redact-events.ts';

let dir: string;
let isOwnWord: ReturnType<typeof createOwnWords>;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-events-'));
  const sources = globSync('agent/**/*.ts').map(file => readFileSync(file, 'utf8'));
  writeFileSync(join(dir, 'program'), sources.join('\n'));
  isOwnWord = createOwnWords(join(dir, 'program'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Returns the texts of a run whose step prints `output` and fails, with these secrets. */
async function textsOfRun(output: string, secrets: string[]): Promise<{ output: string; sentences: string }> {
  const redactor = new Redactor(isOwnWord);
  for (const secret of secrets) redactor.add(secret);
  const runDir = mkdtempSync(join(dir, 'run-'));
  const stepRunner = createStepRunner({
    engine: new DockerEngine(join(dir, 'none.sock')),
    environment: { PATH: '/usr/bin:/bin' },
    keeper: KEEPER,
    ...{ runDir, redactor, grace: 300 },
  });
  const step = program(`console.log(${JSON.stringify(output)}); process.exitCode = 3`, { name: 'docker pull' });
  const work = executePlan(planOf([step]), { document: 1, stepRunner, signal: new AbortController().signal });
  const events: ProgressEvent[] = [];
  let next = await work.next();
  for (; !next.done; next = await work.next()) events.push(redactEvent(next.value, redactor));
  stepRunner.end();
  const title = { kind: 'note', level: 'info', text: 'rollout of docker on media: succeeded, running' } as const;
  const texts = [...events, redactEvent(title, redactor)].map(event =>
    event.kind === 'output'
      ? { output: 'bytes' in event ? event.bytes.toString() : event.text }
      : {
          sentence: JSON.stringify(event)
            .replaceAll(runDir, '')
            .replace(/"ms":\d+/g, ''),
        },
  );
  return {
    output: texts.map(one => one.output ?? '').join(''),
    sentences: `${texts.map(one => one.sentence ?? '').join('\n')}${JSON.stringify(redactResult(next.value, redactor).message)}`,
  };
}

describe('the events of a run', () => {
  it('keep the agent’s own words, although they are secrets too', async () => {
    const secrets = ['docker', 'running', 'succeeded', 'rollout', 'exit code', 'failed', 'pull'];
    const plain = await textsOfRun('nothing', []);
    const redacted = await textsOfRun('nothing', secrets);
    expect(redacted.sentences).toBe(plain.sentences);
    expect(plain.sentences).toContain('\\"docker pull\\" ended with exit code 3: nothing');
  });

  it('have such a secret redacted where a program printed it', async () => {
    const { output, sentences } = await textsOfRun('docker is running', ['docker', 'running']);
    expect(output).toBe('****** is *******\n');
    expect(sentences).toContain('ended with exit code 3: ****** is *******');
  });

  it('never contain another secret, wherever it enters', () => {
    const secretText = fc
      .string({ minLength: 6, maxLength: 24, unit: 'grapheme-ascii' })
      .filter(text => text.trim() === text && /\d/.test(text) && !/^\*+$/.test(text));
    fc.assert(
      fc.property(secretText, secret => {
        const redactor = new Redactor(isOwnWord);
        redactor.add(secret);
        const foreign = `before ${secret} after ${JSON.stringify({ url: `https://x/?q=${encodeURIComponent(secret)}` })}`;
        const result = { outcome: 'failed', message: foreign, remedy: foreign } as const;
        const events: ProgressEvent[] = [
          {
            kind: 'planned',
            document: 1,
            title: foreign,
            summary: foreign,
            steps: [{ name: 'pull', text: foreign }],
            changes: [{ subject: foreign, change: 'write', details: [foreign] }],
          },
          { kind: 'step-started', document: 1, step: 'pull', text: foreign, phase: 'do' },
          { kind: 'note', level: 'info', text: foreign },
          { kind: 'output', document: 1, step: 'pull', text: foreign },
          {
            ...{ kind: 'step-finished', document: 1, step: 'pull', ms: 1, ...result },
            mark: { document: 1, index: 1, ms: 1, ending: result },
          },
          { kind: 'document-finished', document: 1, ...result },
        ];
        for (const event of events) {
          const texts = JSON.stringify(redactEvent(event, redactor));
          for (const form of [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)])
            expect(texts).not.toContain(form);
        }
      }),
      { numRuns: 500 },
    );
  });
});
