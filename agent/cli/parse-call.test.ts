import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Call, parseCall } from './parse-call.ts';
import { parseProgram } from './program.ts';

// Help texts would fill the report of the tests.
beforeAll(() => {
  for (const output of [process.stdout, process.stderr]) vi.spyOn(output, 'write').mockReturnValue(true);
});
afterAll(() => {
  vi.restoreAllMocks();
});

/** Returns what commander makes of a command line, or undefined if it refuses the call. */
async function parseWithCommander(argv: string[]): Promise<Call | undefined> {
  let call: Call | undefined;
  await parseProgram(argv, async parsed => {
    call = parsed;
  }).catch(() => undefined);
  return call;
}

describe('a correct call', () => {
  it.each([
    'runs',
    'runs a-run --json',
    'runs --limit 3 --before a-run --socket /run/agent.sock',
    'runs --limit=3 --limit=4',
    'logs -f',
    'logs --follow a-run',
    'run it.yaml --param a=1 --param=b=2=3 --plan --config=',
    'run --dry-run it.yaml',
    'plan it.yaml --agent ws://host:8000 --agent-key k --signing-key-file f --as anna --timeout 5m',
    'validate a.yaml --json b.yaml',
    'validate -- --a.yaml -b',
    'init --repository a/b --profile keyless --repository-id 1 --owner-id 2 --github-api http://localhost',
    'key --config agent.yaml rotate --finish',
    'key add KEY --entry main',
    'policy --json test a.yaml b.yaml',
    'policy explain it.yaml --entry main --label x --label y --unmerged --plan-digest',
    'audit verify --expect 1:a --receipt r.json --receipt s.json',
    'notify test',
    'notify test team',
    'completion fish',
    'selftest --attack',
    'agent',
  ])('means the same to both parsers: %s', async line => {
    const argv = line.split(' ');
    const call = parseCall(argv);
    expect(call).toBeDefined();
    expect(await parseWithCommander(argv)).toEqual(call);
  });

  it('has the values of its arguments and options, with defaults', () => {
    expect(parseCall(['logs', '--follow', '--timeout', '5m'])).toEqual({
      name: 'logs',
      args: [undefined],
      options: {
        follow: true,
        config: '/etc/chatops/agent.yaml',
        socket: undefined,
        json: false,
        agent: undefined,
        'agent-key': undefined,
        'signing-key-file': undefined,
        as: undefined,
        timeout: '5m',
      },
    });
  });
});

describe('a wrong call', () => {
  it.each([
    '',
    'frobnicate',
    'runs --help',
    'runs -h',
    'runs --limt 3',
    'runs --limit',
    'runs --limit --json',
    'runs --json=1',
    'runs a b',
    'cancel',
    'key',
    'key rotat',
    'key add KEY',
    'key rotate --entry main',
    'key fingerprint KEY --finish',
    'audit export --expect 1:a',
    'init --profile both --repository a/b',
    'init',
    'completion tcsh',
    'selftest',
    'selftest --attak',
    '--json runs',
  ])('is left to commander, which refuses it too: "%s"', async line => {
    const argv = line === '' ? [] : line.split(' ');
    expect({ own: parseCall(argv), commander: await parseWithCommander(argv) }).toEqual({
      own: undefined,
      commander: undefined,
    });
  });
});
