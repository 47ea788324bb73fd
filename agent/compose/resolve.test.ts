import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Failure } from '../plan/failure.ts';
import { resolveSources } from './resolve.ts';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chatops-resolve-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
/** Writes a stack's folder next to a folder "vault" with a secret, and resolves it. */
async function resolve(files: Record<string, string>, prepare: (dir: string) => void = () => undefined) {
  const dir = join(root, String(++count), 'web');
  const all = { ...files, '../vault/.env': 'PASSWORD=of-the-vault\n' };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  prepare(dir);
  const found = await resolveSources({ dir, overlay: {}, project: 'web', root: '' });
  const text = [...found.copies.values()].join('\n');
  return { ...found, text: text.replaceAll(dir, 'DIR') };
}

async function refusal(...args: Parameters<typeof resolve>): Promise<{ code: string; message: string }> {
  try {
    await resolve(...args);
  } catch (error) {
    if (error instanceof Failure) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: 'nothing', message: '' };
}

const compose = (service: string) => `services:\n  web:\n    image: a\n${service}`;

it.each([
  ['latin-1', 'services:\n  web:\n    image: a # gr\u00fc\u00dfe\n', 'latin1', 3],
  ['UTF-16', '\ufeffservices:\n  web:\n    image: a\n', 'utf16le', 1],
] as const)('a compose file in %s is refused with the line', async (_, text, encoding, line) => {
  const write = (dir: string) => writeFileSync(join(dir, 'compose.yaml'), Buffer.from(text, encoding));
  const { code, message } = await refusal({ 'compose.yaml': '' }, write);
  expect(code).toBe('compose-invalid');
  expect(message).toMatch(new RegExp(`/compose\\.yaml:${line}: The file is not UTF-8`));
});

describe('the sources of a compose config', () => {
  it.each([
    ['env_file of another stack', compose('    env_file: ../vault/.env\n'), 'compose-file-outside'],
    ['env_file with an absolute path', compose('    env_file: /etc/shadow\n'), 'compose-file-outside'],
    ['env_file by a variable', compose('    env_file: $' + '{X:-/etc/shadow}\n'), 'compose-file-outside'],
    ['label_file', compose('    label_file: [/etc/shadow]\n'), 'compose-file-outside'],
    ['extends', compose('    extends: {file: ../vault/compose.yaml, service: web}\n'), 'compose-file-outside'],
    ['include', 'include: [../vault/compose.yaml]\n', 'compose-file-outside'],
    ['env file of an include', 'include: [{path: a.yaml, env_file: ../vault/.env}]\n', 'compose-file-outside'],
    ['project folder of an include', 'include: [{path: a.yaml, project_directory: ..}]\n', 'compose-file-outside'],
    ['include by git', 'include: ["git@127.0.0.1:a/b.git"]\n', 'compose-remote'],
    ['include by https', 'include: ["https://127.0.0.1/compose.yaml"]\n', 'compose-remote'],
    ['include of an image', 'include: ["oci://127.0.0.1/compose"]\n', 'compose-remote'],
    [
      'an extended file by ssh',
      compose('    extends: {file: "ssh://git@127.0.0.1/a.git", service: web}\n'),
      'compose-remote',
    ],
    ['a file that includes itself', 'include: [{path: compose.yaml, project_directory: .}]\n', 'compose-invalid'],
    ['a key written twice', 'services:\n  web: {image: a}\n  web: {image: b}\n', 'compose-invalid'],
    ['a tag of the YAML library', 'services:\n  web: {image: !!binary aGk=}\n', 'compose-invalid'],
    ['a second document', 'services: {}\n---\nservices: {}\n', 'compose-invalid'],
    ['an alias in its own anchor', 'x-a: &a [*a]\n', 'compose-invalid'],
    ['aliases that grow', growingAliases(), 'compose-invalid'],
    ['aliases of a long text', `x-a: &a ${'z'.repeat(100_000)}\nx-b: [${'*a, '.repeat(100)}]\n`, 'compose-too-large'],
    ['brackets in brackets', '['.repeat(200_000), 'compose-invalid'],
    ['a file for which the parser takes minutes', '# \n'.repeat(200_000), 'file-too-large'],
    ['a file that extends itself', compose('    extends: {file: compose.yaml, service: web}\n'), 'compose-invalid'],
    ['two files that extend one another', compose('    extends: {file: b.yaml, service: web}\n'), 'compose-invalid'],
    ['a file that is read again and again', `include: [${'b.yaml, '.repeat(20)}c.yaml]\n`, 'compose-invalid'],
  ])('are refused: %s', async (_, text, code) => {
    const back = compose('    extends: {file: compose.yaml, service: web}\n');
    expect((await refusal({ 'compose.yaml': text, 'a.yaml': 'services: {}\n', 'b.yaml': back })).code).toBe(code);
  });

  it.each([
    ['COMPOSE_FILE=../vault/compose.yaml', 'compose-file-outside'],
    ['COMPOSE_EXPERIMENTAL_GIT_REMOTE=1', 'compose-not-allowed'],
    ['COMPOSE_OF_NEXT_YEAR=1', 'compose-not-allowed'],
  ])('are refused for a variable of compose in .env: %s', async (line, code) => {
    expect((await refusal({ 'compose.yaml': compose(''), '.env': `${line}\n` })).code).toBe(code);
  });

  it('are refused for a link, a pipe or a device in place of a file, without waiting', async () => {
    const text = compose('    env_file: app.env\n');
    const link = await refusal({ 'compose.yaml': text }, dir => symlinkSync('../vault/.env', join(dir, 'app.env')));
    expect(link.code).toBe('path-outside');
    const folder = await refusal({ 'compose.yaml': compose('    env_file: conf/.env\n') }, dir =>
      symlinkSync('../vault', join(dir, 'conf')),
    );
    expect(folder.code).toBe('path-outside');
    const pipe = await refusal({ 'compose.yaml': text }, dir => execFileSync('mkfifo', [join(dir, 'app.env')]));
    expect(pipe.code).toBe('not-a-file');
  });

  it('never appear in a message: an env file of another form is named by its line', async () => {
    const { code, message } = await refusal({
      'compose.yaml': compose('    env_file: app.env\n'),
      'app.env': 'A=1\n{"auths": {"x": "c2VjcmV0"}}\n',
    });
    expect([code, message]).toEqual(['env-file-invalid', expect.stringMatching(/app\.env:2: /)]);
    expect(message).not.toContain('auths');
    const yaml = await refusal({ 'compose.yaml': 'services: {web: [s3cret-value\n' });
    expect(yaml.message).not.toContain('s3cret');
  });

  it('are refused if variables of variables grow', async () => {
    const lines = ['V0=0123456789'];
    for (let level = 1; level < 40; level++) lines.push(`V${level}=$V${level - 1}$V${level - 1}`);
    const files = { 'compose.yaml': compose(''), '.env': lines.join('\n') };
    expect((await refusal(files)).code).toBe('env-file-invalid');
  });

  it('name the file, the line and the key', async () => {
    const { message } = await refusal({ 'compose.yaml': compose('    env_file: ../vault/.env\n') });
    expect(message).toMatch(
      /web\/compose\.yaml:4: services\.web\.env_file: .*vault\/\.env is not in the stack’s folder/,
    );
  });

  it('reach compose without variables, and with the files that they name', async () => {
    const { text, profiles, name, warnings } = await resolve({
      'compose.yaml': [
        'name: $' + '{NAME}',
        'services:',
        '  web:',
        '    image: "a:$' + '{TAG:-$' + '{OTHER:-1}}"',
        '    command: ["$$HOME", "$UNSET"]',
        '    env_file: [{path: app.env}, {path: none.env, required: false}]',
        '    environment: [TOKEN, PLAIN=1]',
        '    configs: [{source: c, mode: 0440}]',
        'configs: {c: {environment: TOKEN}}',
      ].join('\n'),
      '.env': "NAME=web\nTOKEN='a$b'\nCOMPOSE_PROFILES=one,two\n",
      'app.env': 'PASSWORD="with \\"quotes\\" and $$"\n',
    });
    expect(text).toContain('"image": "a:1"');
    expect(text).toContain('"command": ["$$HOME", ""]');
    expect(text).toContain('TOKEN=a$$b');
    expect(text).toContain('PASSWORD="with \\"quotes\\" and \\$"');
    expect(text).toContain('"mode": 0440');
    expect(text).toContain('"content": "a$$b"');
    expect(text).not.toMatch(/TAG|none\.env/);
    expect(profiles).toEqual(['one', 'two']);
    expect(name?.text).toBe('web');
    expect(warnings).toEqual([expect.stringContaining('UNSET is not set')]);
  });

  it('give a warning with file and line for each variable that nothing sets, without a part of a password', async () => {
    const { warnings } = await resolve({
      'compose.yaml': compose(
        [
          '    environment:',
          '      DB: $' + '{DB_NAME}',
          '      HOST: $' + '{DB_HOST:-db}',
          '      USER: $DB_USER',
          '      AGAIN: $' + '{DB_NAME}',
          '      PASSWORD: pa$word',
          '    env_file: app.env\n',
        ].join('\n'),
      ),
      'app.env': 'A=1\nPASSWORD=pa$word\nB=$A\n',
    });
    expect(warnings.map(text => text.replace(root, '').replace(/^\/\d+\/web/, ''))).toEqual([
      '/compose.yaml:5: the variable DB_NAME is not set, and compose puts nothing in its place. Set it in .env.',
      '/compose.yaml:7: the variable DB_USER is not set, and compose puts nothing in its place. Set it in .env.',
      '/compose.yaml:8: the variable DB_NAME is not set, and compose puts nothing in its place. Set it in .env.',
      '/compose.yaml:9: compose reads a "$" as a variable that nothing sets, and removes it. Write "$$" for a literal "$".',
      '/app.env:2: compose reads a "$" in PASSWORD as a variable and changes the value. Put it in single quotes.',
    ]);
  });

  it('are those that the run will write, in place of those on the host', async () => {
    const dir = join(root, 'overlay', 'web');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'compose.yaml'), 'services: {web: {image: old}}');
    writeFileSync(join(dir, 'compose.override.yaml'), 'services: {web: {privileged: true}}');
    const shipped = join(root, 'shipped');
    writeFileSync(shipped, 'services: {web: {image: new}}');
    const overlay = { [join(dir, 'compose.yaml')]: shipped, [join(dir, 'compose.override.yaml')]: null };
    const { copies } = await resolveSources({ dir, overlay, project: 'web', root: '' });
    expect([...copies.values()].join()).toBe('{"services": {"web": {"image": "new"}}}');
  });
});

function growingAliases(): string {
  const lines = ['x-0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let level = 1; level < 9; level++)
    lines.push(`x-${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(', ')}]`);
  return `${lines.join('\n')}\n`;
}
