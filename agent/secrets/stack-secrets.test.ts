import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findSecrets } from './stack-secrets.ts';

let dir: string;
beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'chatops-secrets-')), 'media');
});
afterEach(() => rmSync(dirname(dir), { recursive: true }));

async function found(files: Record<string, string>, shown: string[] = [], shipped: Record<string, string> = {}) {
  const later = new Map<string, string>();
  for (const [path, text] of Object.entries(files)) write(join(dir, path), text);
  for (const [path, text] of Object.entries(shipped)) {
    later.set(join(dir, path), join(dirname(dir), 'shipped', path));
    write(join(dirname(dir), 'shipped', path), text);
  }
  return findSecrets(dir, later, shown);
}
function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

describe('the search for the secrets of a stack', () => {
  it('finds the values of .env, except those that are plainly public', async () => {
    const text = [
      '# comment',
      'DB_PASSWORD=s3cret-one # with a note',
      "QUOTED='s3cret two'",
      'export DOUBLE="s3cret\\nthree"',
      'MULTI="first line\nsecond line"',
      'EMPTY=',
      'TZ=Europe/Berlin',
      'DATA_DIR=/srv/media',
      'TAG=1.2.3-alpine',
      'MODE=production',
      'NAME=media',
      'SECRET_PATH=/s3cret/path',
      'URL=postgres://user:s3cret%21four@db/x',
    ].join('\n');
    expect((await found({ '.env': text })).values).toEqual([
      's3cret-one',
      's3cret two',
      's3cret\nthree',
      'first line\nsecond line',
      '/s3cret/path',
      'postgres://user:s3cret%21four@db/x',
      's3cret!four',
    ]);
  });

  it('finds what env_file, environment, secrets and include of the compose files name', async () => {
    const files = {
      'compose.yaml': [
        'include: [other/compose.yaml]',
        'services:',
        '  web:',
        '    env_file: [web.env, {path: raw.env, format: raw}]',
        '    environment: {API_TOKEN: token-inline, PLAIN: not-secret}',
        '  db:',
        '    env_file: db/db.env',
        '    environment: [DB_PASSWD=passwd-inline, OTHER=not-secret]',
        'secrets:',
        '  one: {file: one.txt}',
      ].join('\n'),
      'web.env': 'A=web-env-value\n',
      'raw.env': 'B=raw$env$value\n',
      'db/db.env': 'C=db-env-value\n',
      'one.txt': 'secret-file-value\n',
      'other/compose.yaml': 'services: {x: {env_file: x.env}}\n',
      'other/x.env': 'D=included-value\n',
    };
    const { values, warnings } = await found(files);
    expect(values.sort()).toEqual([
      'db-env-value',
      'included-value',
      'passwd-inline',
      'raw$env$value',
      'secret-file-value',
      'token-inline',
      'web-env-value',
    ]);
    expect(warnings).toEqual([]);
  });

  it('finds the secrets of files that are about to be written too', async () => {
    const { values } = await found({ '.env': 'A=now-value\n', 'web.env': 'B=old-value\n' }, [], {
      'compose.yaml': 'services: {web: {env_file: web.env}}\n',
      'web.env': 'B=new-value\n',
    });
    expect(values.sort()).toEqual(['new-value', 'now-value', 'old-value']);
  });

  it('leaves out names that agent.yaml lets the agent show', async () => {
    expect((await found({ '.env': 'PUBLIC_URL=https://x.org\nHIDDEN=hidden\n' }, ['PUBLIC_*'])).values).toEqual([
      'hidden',
    ]);
  });

  it('warns about values that compose would change', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a variable of compose
    const text = 'A=P@$$w0rd\nB=x$HOME\nC=\'x$HOME\'\nD=${A}-more\nE="x$NOBODY"\nF=5$\nG=cost$5\n';
    const { warnings } = await found({ '.env': text });
    expect(warnings.map(line => /:(\d+): .* in (\w+) as/.exec(line)?.slice(1).join(' '))).toEqual([
      '1 A',
      '2 B',
      '5 E',
    ]);
  });

  it('finds nothing in an empty folder and in a broken compose file', async () => {
    expect(await found({})).toEqual({ values: [], warnings: [] });
    expect(await found({ 'compose.yaml': '{: [' })).toEqual({ values: [], warnings: [] });
  });
});
