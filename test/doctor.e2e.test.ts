import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatOption, listOptions } from '../agent/cli/command-spec.ts';
import { SHOWN_COMMANDS } from '../agent/cli/commands.ts';
import { HANDLERS } from '../agent/cli/handlers.ts';
import type { CheckResult } from '../agent/diagnostics/doctor.ts';
import { IssuerDouble } from './doubles/issuer.ts';
import { Host } from './stand/host.ts';

let dir: string;
let host: Host;
const issuer = new IssuerDouble();
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-doctor-'));
  await issuer.start();
  host = new Host({ dir, repository: 'org/homelab' });
  await host.start(healthy());
});
afterAll(async () => {
  await host.stop();
  await issuer.stop();
  rmSync(dir, { recursive: true });
});
const healthy = () => {
  writeFileSync(join(dir, 'token'), 'secret\n', { mode: 0o600 });
  return {
    oidc: { issuer: issuer.url },
    doors: { token_file: join(dir, 'token') },
    trust: [
      {
        ...{ name: 'homelab', key: host?.keys.public, repository: 'org/homelab' },
        github: { repository_id: '1', repository_owner_id: '2' },
        allow: [{ actions: ['rollout'], stacks: ['*'] }],
      },
    ],
  };
};
async function diagnose(): Promise<{ code: number | null; found: Map<string, CheckResult> }> {
  const { code, stdout } = await host.chatops(['doctor', '--json']);
  return { code, found: new Map((JSON.parse(stdout) as CheckResult[]).map(result => [result.check, result])) };
}

describe('chatops doctor', () => {
  it('reports no problem on a healthy host', async () => {
    const { code, found } = await diagnose();
    expect({ exit: code, problems: [...found.values()].filter(({ state }) => state === 'bad') }).toEqual({
      exit: 0,
      problems: [],
    });
    for (const check of [
      'Node',
      'agent.yaml',
      'listen',
      'Docker',
      'compose',
      'rendering',
      'GitHub’s keys',
      'the agent',
      `secret ${join(dir, 'token')}`,
    ])
      expect(found.get(check)?.state, check).toBe('good');
    const { stdout } = await host.chatops(['doctor']);
    expect(stdout).toMatch(/^✓ Docker: answers at /m);
  });

  it.each<[string, object, string, RegExp]>([
    ['an address that is not this host’s', { listen: '100.64.0.7:8000' }, 'listen', /not an address of this host/],
    ['an engine that does not answer', { docker: { socket: '/nonexistent.sock' } }, 'Docker', /is not available/],
    ['a missing Docker client', { docker: { command: 'no-docker' } }, 'compose', /no-docker/],
    ['keys that are not available', { oidc: { issuer: 'http://127.0.0.1:9' } }, 'GitHub’s keys', /127\.0\.0\.1:9/],
    ['a missing folder', { stacks: { root: '/nonexistent/stacks' } }, '/nonexistent/stacks', /does not exist/],
    ['a missing secret', { doors: { token_file: '/nonexistent/token' } }, 'secret /nonexistent/token', /ENOENT/],
    ['an agent that does not run', { state_dir: '/nonexistent/state' }, 'the agent', /agent-unreachable/],
  ])('reports %s with a remedy', async (_, changes, check, message) => {
    host.configure({ ...healthy(), ...changes });
    const { code, found } = await diagnose();
    const finding = found.get(check);
    expect(
      {
        exit: code,
        state: finding?.state,
        messageMatches: message.test(finding?.says ?? ''),
        hasRemedy: (finding?.remedy ?? '').length > 10,
      },
      JSON.stringify([...found.values()]),
    ).toEqual({ exit: 1, state: 'bad', messageMatches: true, hasRemedy: true });
    host.configure(healthy());
  });

  it('stops after agent.yaml if it cannot be parsed', async () => {
    writeFileSync(host.configFile, 'agent: [', { mode: 0o600 });
    const { code, found } = await diagnose();
    expect({ exit: code, checks: [...found.keys()] }).toEqual({ exit: 1, checks: ['Node', 'agent.yaml'] });
    host.configure(healthy());
  });
});

describe('chatops completion', () => {
  const chatops = (...args: string[]) =>
    spawnSync(process.execPath, ['dist/agent/index.js', ...args], { encoding: 'utf8' });

  it('completes every command that --help lists', () => {
    // The agent calls these two commands itself: users do not type them.
    const commands = Object.keys(HANDLERS).filter(name => !['keeper', 'proxmox'].includes(name));
    expect(SHOWN_COMMANDS.map(({ name }) => name).sort()).toEqual(commands.sort());
    const { stdout } = chatops('--help');
    for (const name of commands) expect(stdout).toContain(`chatops ${name}`);
  });

  it('completes commands, subcommands and options in bash', () => {
    const script = `${chatops('completion', 'bash').stdout}\nCOMP_WORDS=(chatops "$1" "$2"); COMP_CWORD=$3; _chatops; echo "\${COMPREPLY[@]}"`;
    const complete = (...args: string[]) =>
      spawnSync('bash', ['-c', script, 'bash', ...args], { encoding: 'utf8' }).stdout.trim();
    expect(complete('ro', '', '1')).toBe('rollback');
    expect(complete('policy', 'ex', '2')).toBe('explain');
    expect(complete('audit', '--e', '2')).toBe('--expect');
  });

  it('completes commands and subcommands in fish', () => {
    const script = `${chatops('completion', 'fish').stdout}\ncomplete --do-complete $argv[1]`;
    const complete = (line: string) =>
      spawnSync('fish', ['--no-config', '-c', script, line], { encoding: 'utf8', env: { ...process.env, HOME: dir } })
        .stdout.split('\n')
        .map(completion => completion.split('\t')[0]);
    expect(complete('chatops roll')).toEqual(['rollback', '']);
    expect(complete('chatops policy ex')).toContain('explain');
  });

  it('writes a completion script that zsh loads', () => {
    const file = join(dir, '_chatops');
    writeFileSync(file, chatops('completion', 'zsh').stdout);
    const script = `autoload -U compinit && compinit -u -D && source ${file} && print -r -- $_comps[chatops]`;
    const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', script], { encoding: 'utf8' });
    expect({ stdout: stdout.trim(), stderr }).toEqual({ stdout: '_chatops', stderr: '' });
    expect(spawnSync('zsh', ['-n', file]).status).toBe(0);
  });

  it('refuses to write a completion script for another shell', () => {
    expect(chatops('completion', 'tcsh').status).toBe(2);
  });
});

describe('chatops man', () => {
  it('writes a valid manual page with every command and option', () => {
    const { stdout, status } = spawnSync(process.execPath, ['dist/agent/index.js', 'man'], { encoding: 'utf8' });
    expect(status).toBe(0);
    const lint = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning'], { input: stdout, encoding: 'utf8' });
    expect({ stdout: lint.stdout, status: lint.status }).toEqual({ stdout: '', status: 0 });
    const { stdout: rendered } = spawnSync('mandoc', ['-T', 'utf8'], { input: stdout, encoding: 'utf8' });
    // Bold is a letter, a backspace and the letter again.
    const text = rendered
      .split('\b')
      .map((part, index, all) => (index < all.length - 1 ? part.slice(0, -1) : part))
      .join('');
    const options = SHOWN_COMMANDS.flatMap(listOptions);
    for (const { name } of SHOWN_COMMANDS) expect(text).toMatch(new RegExp(`^ {7}${name}\\b`, 'm'));
    for (const option of options) expect(text).toMatch(new RegExp(`^ {7}${formatOption(option)}( |$)`, 'm'));
    expect(text).toMatch(/^ {7}CHATOPS_SIGNING_KEY_FILE$/m);
  });
});
