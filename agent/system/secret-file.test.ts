import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Config } from '../config/load.ts';
import { siteOf } from '../config/site.ts';
import { readSecretFile, secretPath } from './secret-file.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'chatops-credentials-'));
  vi.stubEnv('CREDENTIALS_DIRECTORY', dir);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true });
});

describe('a secret file of agent.yaml', () => {
  it('can be a systemd credential, in every field that names a secret', () => {
    writeFileSync(join(dir, 'db'), 'p4ssword\nmore\n', { mode: 0o440 });
    expect(readSecretFile('credential:db')).toBe('p4ssword');
    const { backups } = siteOf(
      Config.parse({
        agent: 'whitebox',
        backups: {
          remotes: [{ target: 'rsync://nas/backup', password_file: 'credential:nas' }],
          databases: [{ server: 'db', stack: 'app', password_file: 'credential:db' }],
          restic: { password_file: 'credential:restic' },
        },
        trust: [
          {
            name: 'x',
            key: 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=',
            repository: 'o/r',
            allow: [{ actions: ['backup'], stacks: ['*'] }],
          },
        ],
      }),
    );
    expect({
      remote: backups.remotes[0]?.password_file,
      database: backups.databases[0]?.password_file,
      restic: backups.resticPassword,
    }).toEqual({ remote: join(dir, 'nas'), database: join(dir, 'db'), restic: join(dir, 'restic') });
    vi.stubEnv('CREDENTIALS_DIRECTORY', undefined);
    expect(secretPath('credential:db')).toBe('/run/credentials/chatops-agent.service/db');
    expect(secretPath('/etc/x')).toBe('/etc/x');
  });

  it('is refused if other users can read it, or if it is empty or missing', () => {
    const file = join(dir, 'open');
    writeFileSync(file, 'secret\n', { mode: 0o644 });
    expect(() => readSecretFile(file)).toThrow(`chmod 600 ${file}`);
    writeFileSync(join(dir, 'empty'), '\n', { mode: 0o600 });
    expect(() => readSecretFile(join(dir, 'empty'))).toThrow(/first line is empty/);
    expect(() => readSecretFile('credential:none')).toThrow(/ENOENT/);
  });

  it.each(['inline-secret', 'credential:../x', '/etc/../x', 'credential:'])(
    'is refused if agent.yaml has a value that is not a path: %s',
    named => {
      const config = {
        agent: 'x',
        github: { token_file: named },
        trust: [
          {
            name: 'x',
            key: 'ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=',
            repository: 'o/r',
            allow: [{ actions: ['backup'], stacks: ['*'] }],
          },
        ],
      };
      expect(Config.safeParse(config).success).toBe(false);
      expect(Config.safeParse({ ...config, github: { token_file: '/etc/x' } }).success).toBe(true);
    },
  );
});
