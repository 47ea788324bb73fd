import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SecretNames } from './config-secrets.ts';
import { findSecrets } from './stack-secrets.ts';

let dir: string;
beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'chatops-secrets-')), 'media');
});
afterEach(() => rmSync(dirname(dir), { recursive: true }));

async function found(
  files: Record<string, string>,
  names: Partial<SecretNames> = {},
  shipped: Record<string, string> = {},
) {
  const later = new Map<string, string>();
  for (const [path, text] of Object.entries(files)) write(join(dir, path), text);
  for (const [path, text] of Object.entries(shipped)) {
    later.set(join(dir, path), join(dirname(dir), 'shipped', path));
    write(join(dirname(dir), 'shipped', path), text);
  }
  const { secrets, warnings } = await findSecrets(dir, later, { shown: [], hidden: [], ...names });
  return { values: [...new Set(secrets.map(({ value }) => value))], secrets, warnings };
}
function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

describe('the search for the secrets of a stack', () => {
  it('finds the likely secrets of .env', async () => {
    const text = [
      '# comment',
      'DB_PASSWORD=s3cret-one # with a note',
      "QUOTED_TOKEN='s3cret two'",
      'export DOUBLE_KEY="s3cret\\nthree"',
      'MULTI_SECRET="first line\nsecond line"',
      'EMPTY_PASSWORD=',
      'TZ=Europe/Berlin',
      'DATA_DIR=/srv/media',
      'TAG=1.2.3-alpine',
      'MODE=production',
      'NAME=media',
      'GREETING=good morning',
      'URL=postgres://user:s3cret%21four@db/x',
    ].join('\n');
    expect((await found({ '.env': text })).values).toEqual([
      's3cret-one',
      's3cret two',
      's3cret\nthree',
      'first line\nsecond line',
      's3cret%21four',
      's3cret!four',
    ]);
  });

  it('marks a secret that is also a public name of the stack', async () => {
    const { secrets } = await found({
      '.env': 'DB_USER=keeper\nDB_PASSWORD=keeper\nROOT_PASSWORD=Media\nWEB_PASSWORD=web\nOTHER_PASSWORD=other\n',
      'compose.yaml': 'services: {web: {image: x}, other: {image: x}}\n',
    });
    expect(secrets.map(({ value, isName }) => [value, isName])).toEqual([
      ['keeper', true],
      ['Media', true],
      ['web', true],
      ['other', true],
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
      'web.env': 'A_KEY=web-env-value\n',
      'raw.env': 'B_KEY=raw$env$value\n',
      'db/db.env': 'C_KEY=db-env-value\n',
      'one.txt': 'secret-file-value\n',
      'other/compose.yaml': 'services: {x: {env_file: x.env}}\n',
      'other/x.env': 'D_KEY=included-value\n',
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
    const { values } = await found(
      { '.env': 'A_KEY=now-value\n', 'web.env': 'B_KEY=old-value\n' },
      {},
      {
        'compose.yaml': 'services: {web: {env_file: web.env}}\n',
        'web.env': 'B_KEY=new-value\n',
      },
    );
    expect(values.sort()).toEqual(['new-value', 'now-value', 'old-value']);
  });

  it('leaves out names that agent.yaml shows, and adds those that it hides', async () => {
    const text = 'PUBLIC_KEY_A=shown-one\nAPP_SECRET=shown-two\nPHRASE=good morning\nDB_PASSWORD=hidden\n';
    const { values } = await found({ '.env': text }, { shown: ['APP_*'], hidden: ['PHRASE'] });
    expect(values).toEqual(['good morning', 'hidden']);
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
    expect(await found({})).toMatchObject({ values: [], warnings: [] });
    expect(await found({ 'compose.yaml': '{: [' })).toMatchObject({ values: [], warnings: [] });
  });
});
