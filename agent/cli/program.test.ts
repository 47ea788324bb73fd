import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type CommandSpec, formatCall, formatOption, listOptions } from './command-spec.ts';
import { COMMANDS, GROUPS, SHOWN_COMMANDS } from './commands.ts';
import { runProgram } from './program.ts';
import { toRefusal } from './refusals.ts';

const PROGRAM = join(import.meta.dirname, '../cli.ts');
const INTENTS = 'intents/examples/rollout_stack_media.yaml';
const dir = mkdtempSync(join(tmpdir(), 'chatops-program-'));
afterAll(() => rmSync(dir, { recursive: true }));

function chatops(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
  });
  return { status, stdout, stderr };
}

/** Runs a command line in this process: its exit code and what it wrote, or the refusal that it threw. */
async function call(...args: string[]) {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map(name =>
    vi.spyOn(process[name], 'write').mockImplementation(text => {
      written[name] += text;
      return true;
    }),
  );
  try {
    return { status: await runProgram(args), ...written };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** Returns the refusal of a wrong command line as a user reads it. */
async function refusalOf(...args: string[]): Promise<string> {
  const error = await call(...args).then(done => Promise.reject(new Error(`exit code ${done.status}`)), toRefusal);
  return `${error.code}: ${error.message} ${error.remedy}`;
}

describe('chatops --help', () => {
  it.each(COMMANDS.map(command => ({ command: command as CommandSpec, name: command.name })))(
    'explains the command "$name", with its arguments, options and examples',
    async ({ command, name }) => {
      const { status, stdout, stderr } = await call(...name.split(' '), '--help');
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout.split('\n')[0]).toMatch(`Usage: chatops ${formatCall(command)}`);
      for (const option of listOptions(command)) expect(stdout).toContain(`  ${formatOption(option)}`);
      for (const example of command.examples ?? []) expect(stdout).toContain(`  ${example}`);
    },
  );

  it.each(Object.keys(GROUPS))('lists the subcommands of "%s"', async word => {
    const { status, stdout, stderr } = await call(word, '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const command of SHOWN_COMMANDS.filter(({ name }) => name.startsWith(`${word} `)))
      expect(stdout).toContain(`  chatops ${formatCall(command)}`);
  });

  it('lists every command, except those that only the agent calls', async () => {
    const { status, stdout } = await call('--help');
    expect(status).toBe(0);
    for (const { name } of SHOWN_COMMANDS) expect(stdout).toMatch(new RegExp(`^  chatops ${name}\\b`, 'm'));
    for (const name of ['keeper', 'proxmox']) expect(stdout).not.toContain(`chatops ${name}`);
  });

  it('is also what "help" prints, and is on standard error if no command is given', async () => {
    const { stdout } = await call('--help');
    expect(await call('help')).toEqual({ status: 0, stdout, stderr: '' });
    expect(await call()).toEqual({ status: 2, stdout: '', stderr: stdout });
  });

  it('explains the hidden commands as built', () => {
    for (const name of ['keeper', 'proxmox'])
      expect(chatops(name, '--help')).toEqual({
        status: 0,
        stdout: expect.stringContaining(`Usage: chatops ${name}`),
        stderr: '',
      });
  });
});

describe('a wrong call', () => {
  it.each([
    ['a mistyped command', ['rnus'], 'Unknown command "rnus". Did you mean runs? Run "chatops --help".'],
    [
      'a mistyped subcommand',
      ['key', 'rotat'],
      'Unknown command "rotat". Did you mean rotate? Run "chatops key --help".',
    ],
    [
      'a mistyped option',
      ['runs', '--limt', '3'],
      'Unknown option "--limt". Did you mean --limit? Run "chatops runs --help".',
    ],
    [
      'a mistyped required option',
      ['selftest', '--attak'],
      'Unknown option "--attak". Did you mean --attack? Run "chatops selftest --help".',
    ],
    ['a command that is like no other', ['frobnicate'], 'Unknown command "frobnicate". Run "chatops --help".'],
    ['an option of another command', ['agent', '--port'], 'Unknown option "--port". Run "chatops agent --help".'],
    ['a group alone', ['key'], 'A subcommand of "chatops key" is missing. Run "chatops key --help".'],
    ['a missing argument', ['cancel'], 'Missing required argument "RUN". Write: chatops cancel RUN'],
    ['a missing option', ['key', 'add', 'x'], 'The option --entry is missing. Write: chatops key add KEY --entry NAME'],
    [
      'an option without its value',
      ['runs', '--limit'],
      'The option --limit has no value. Write --limit N, or --limit=N for a value that starts with "-".',
    ],
    [
      'an option in place of a value',
      ['keygen', '--out', '--json'],
      'The option --out has no value. Write --out FILE, or --out=FILE for a value that starts with "-".',
    ],
    [
      'a value for a switch',
      ['runs', '--json=1'],
      'Unknown option "--json=1". Did you mean --json? Run "chatops runs --help".',
    ],
    [
      'a value that is not a choice',
      ['init', '--repository', 'a/b', '--profile', 'both'],
      'Option "--profile NAME" argument "both" is invalid. Allowed choices are dual, keyless, offline. Run "chatops init --help".',
    ],
    [
      'an argument that is not a choice',
      ['completion', 'tcsh'],
      'Value "tcsh" is invalid for argument "SHELL". Allowed choices are bash, zsh, fish. Run "chatops completion --help".',
    ],
    [
      'too many arguments',
      ['cancel', 'a', 'b'],
      'Too many arguments for "cancel". Expected 1 argument but got 2: a, b. Run "chatops cancel --help".',
    ],
  ])('names %s and what to write', async (_, args, text) => {
    expect(await refusalOf(...args)).toBe(`wrong-call: ${text}`);
  });

  it('has exit code 2 and one line on standard error', () => {
    expect(chatops('cancle', 'x')).toEqual({
      status: 2,
      stdout: '',
      stderr: 'chatops: wrong-call: Unknown command "cancle". Did you mean cancel? Run "chatops --help".\n',
    });
  });

  it('is JSON with its code if --json is given', () => {
    const { status, stderr } = chatops('key', 'rotat', '--json');
    expect(status).toBe(2);
    expect(JSON.parse(stderr)).toEqual({
      error: {
        code: 'wrong-call',
        message: 'Unknown command "rotat".',
        remedy: 'Did you mean rotate? Run "chatops key --help".',
      },
    });
  });

  it.each([
    ['--limit abc', ['runs', '--limit', 'abc']],
    ['--param replicas', ['run', INTENTS, '--param', 'replicas']],
    ['--approvals 99', ['policy', 'explain', INTENTS, '--entry', 'x', '--approvals', '99']],
    ['--at noon', ['policy', 'explain', INTENTS, '--entry', 'x', '--at', 'noon']],
    ['--expect 1', ['audit', 'verify', '--expect', '1']],
    ['--agent localhost', ['runs', '--agent', 'localhost', '--agent-key', 'x', '--signing-key-file', 'x']],
  ])('names the value of an option that can not be used: %s', async (option, args) => {
    expect(await refusalOf(...args)).toMatch(`option-invalid: The value of "${option}" is not valid. Write `);
  });
});

describe('a command line', () => {
  it('may have options in front of the subcommand, and values with "="', async () => {
    const refusal = await refusalOf('key', '--config=/nonexistent/agent.yaml', 'rotate');
    expect(refusal).toContain('config-invalid: /nonexistent/agent.yaml');
  });

  it('takes everything after "--" as an argument', async () => {
    expect(await refusalOf('validate', '--', '--json.yaml')).toContain("open '--json.yaml'");
  });
});

describe('a closed pipe', () => {
  const throughHead = (args: string[]) =>
    spawn('bash', ['-c', '"$@" | head -1; echo "$PIPESTATUS"', 'bash', process.execPath, PROGRAM, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });

  it('ends a command quietly, with the status of a program that SIGPIPE ended', async () => {
    const run = { id: 'a-run', title: 'rollout on web', createdAt: '2026-11-26T10:00:00.000Z', outcome: 'succeeded' };
    const server = createServer((_, response) =>
      response.end(JSON.stringify({ runs: Array.from({ length: 5_000 }, () => run) })),
    );
    const socket = join(dir, 'agent.sock');
    await once(server.listen(socket), 'listening');
    const child = throughHead(['runs', '--socket', socket]);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', chunk => (stdout += chunk));
    child.stderr.on('data', chunk => (stderr += chunk));
    await once(child, 'close');
    server.close();
    expect({ stdout, stderr }).toEqual({
      stdout: 'a-run  2026-11-26 10:00:00  succeeded    rollout on web\n141\n',
      stderr: '',
    });
  });

  it('ends a command quietly whose error has no reader', () => {
    const script = '{ sleep 0.2; "$@" 2>&1; echo "$?" >&3; } 3>&2 | true';
    const { stderr } = spawnSync('bash', ['-c', script, 'bash', process.execPath, PROGRAM, 'frobnicate'], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('141\n');
  });

  it('ends a help text quietly too', () => {
    // The reader is gone before the program writes.
    const script = '{ sleep 0.2; "$@"; echo "$?" >&2; } | true';
    const { stderr } = spawnSync('bash', ['-c', script, 'bash', process.execPath, PROGRAM, '--help'], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('141\n');
  });

  it('does not end the agent', async () => {
    const [config, state] = [join(dir, 'agent.yaml'), join(dir, 'state')];
    const key = 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=';
    const trust = [{ name: 'main', key, repository: 'a/b', allow: [{ actions: ['rollout'], stacks: ['*'] }] }];
    const settings = { agent: 'here', listen: '127.0.0.1:0', state_dir: state, stacks: { root: dir }, trust };
    writeFileSync(config, JSON.stringify(settings), { mode: 0o600 });
    const agent = spawn(process.execPath, [PROGRAM, 'agent', '--config', config], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    agent.stdout.destroy();
    await expect.poll(() => existsSync(join(state, 'agent.sock'))).toBe(true);
    await sleep(200);
    agent.kill('SIGHUP');
    await sleep(200);
    expect(agent.exitCode).toBe(null);
    agent.kill('SIGTERM');
    const [code] = await once(agent, 'exit');
    expect(code).toBe(0);
  });
});
