import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { program } from '../../test/stand/steps.ts';
import type { StartStep } from '../plan/plan.ts';
import type { StepResult } from '../plan/progress.ts';
import { Redactor } from '../system/redactor.ts';
import { OutputChecks, type OutputChecksState } from './output-checks.ts';

const STEP: StartStep = program('', {
  mustSay: ['ok\n', 'tables: '],
  mustNotSay: ['tables: 0\n'],
  fatal: [{ begins: 'gone: ', ends: ['.db"', '.sql"'] }],
  warnings: ['WARN:'],
  retry: [{ on: ['aab'], times: 1, pause: 1 }],
});

/** Returns everything that the checks decide. */
function verdictOf(checks: OutputChecks): { result: StepResult; lately: boolean } {
  return { lately: checks.saidLately('aab'), result: checks.apply({ outcome: 'succeeded', exit: 0 }) };
}

/** Checks output in chunks. The agent restarts before the chunks in `restarts`; the log has lost its secrets by then. */
function checkInChunks(output: Buffer, cuts: number[], restarts: number[], redactor: Redactor) {
  const log = Buffer.from(output);
  const offsets = [...new Set([0, ...cuts.filter(cut => cut < output.length), output.length])].sort((a, b) => a - b);
  let saved: string | undefined;
  let checks = new OutputChecks(STEP, 1, 0);
  for (const [index, start] of offsets.slice(0, -1).entries()) {
    if (restarts.includes(index)) {
      checks = new OutputChecks(STEP, 1, 0, saved === undefined ? undefined : (JSON.parse(saved) as OutputChecksState));
      const at = checks.offset;
      const earlier = log.subarray(at, start);
      if (at < start)
        checks.add({ bytes: earlier, raw: earlier, source: { file: '', offset: at, length: start - at } });
    }
    const raw = output.subarray(start, offsets[index + 1]);
    const bytes = Buffer.from(raw);
    const { covered } = redactor.cover(bytes, true, log[start - 1]);
    checks.add({ bytes, raw, source: { file: '', offset: start, length: raw.length } });
    if (covered.length > 0) saved = JSON.stringify(checks.state);
    bytes.copy(log, start);
  }
  return { verdict: verdictOf(checks), state: JSON.stringify(checks.state) };
}

const part = fc.constantFrom(
  ...[
    'ok',
    '\n',
    'tables: ',
    '0',
    '7',
    'gone: ',
    '"a.db"',
    '"b.sql"',
    'WARN:',
    'a',
    'b',
    'aab',
    ' ',
    '\r',
    'secret-word',
  ],
);

describe('the checks of output', () => {
  it('decide the same however the output is cut, and across restarts of the agent', () => {
    const redactor = new Redactor();
    // A secret that is a part of what is searched for would be lost with the log.
    for (const secret of ['tables: ', 'gone: ', 'secret-word', 'aaab']) redactor.add(secret);
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 25 }),
        fc.array(fc.nat(120)),
        fc.array(fc.nat(8)),
        (parts, cuts, restarts) => {
          const output = Buffer.from(parts.join(''));
          const whole = checkInChunks(output, [], [], redactor).verdict;
          const cut = checkInChunks(output, cuts, restarts, redactor).verdict;
          expect({ ...cut, result: { ...cut.result, message: '' } }).toEqual({
            ...whole,
            result: { ...whole.result, message: '' },
          });
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('keep no secret for the next agent', () => {
    const redactor = new Redactor();
    redactor.add('secret-word');
    const output = Buffer.from('WARN: the secret-word\ngone: secret-word.db"\ngone: secret-word');
    const { verdict, state } = checkInChunks(output, [22], [], redactor);
    expect(verdict.result.message).toContain('gone: ***********.db"');
    expect(state).not.toContain('secret');
    expect(state).toContain('WARN: the ***********');
  });

  it('know only the output of their own order', () => {
    const raw = Buffer.from('ok\ntables: 5\n');
    const checks = new OutputChecks(STEP, 2, raw.length, { ...new OutputChecks(STEP, 1, 0).state, offset: 99 });
    checks.add({ bytes: raw, raw, source: { file: '', offset: 0, length: raw.length } });
    expect(verdictOf(checks).result.message).toContain('did not print "ok');
  });
});
