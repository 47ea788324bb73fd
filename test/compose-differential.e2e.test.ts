import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEnvText, writeEnvText } from '../agent/compose/env-text.ts';
import { interpolate } from '../agent/compose/interpolate.ts';
import { renderSources } from '../agent/compose/render.ts';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chatops-differential-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The folder of docker's plugins with the newest compose; undefined for the installed one. */
const newest = execFileSync('bash', ['scripts/newest-compose.sh']).toString().trim();
const COMPOSES: [string, string | undefined][] = [
  ['the installed compose', undefined],
  ['the newest compose', newest],
];

let count = 0;
function stackFolder(files: Record<string, string>): string {
  const dir = join(root, String(++count), 'web');
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

interface PlainConfig {
  services: Record<
    string,
    {
      environment?: Record<string, string>;
      labels?: Record<string, string>;
      volumes?: { type: string; bind?: { create_host_path?: boolean } }[];
    }
  >;
}

/** The config as compose itself renders it from the folder; undefined if it refuses to. */
function renderPlainly(dir: string, configDir: string | undefined): PlainConfig | undefined {
  const args = ['compose', '--project-name', 'web', '--profile', '*', 'config', '--format', 'json'];
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', ...(configDir ? { DOCKER_CONFIG: configDir } : {}) };
  try {
    const output = execFileSync('docker', args, { cwd: dir, env, stdio: ['ignore', 'pipe', 'ignore'] });
    return JSON.parse(output.toString()) as PlainConfig;
  } catch {
    return undefined;
  }
}

type Service = Record<string, unknown>;

/** Renders services in as few calls as possible: one that compose refuses makes it refuse all of a call. */
function renderServices(
  services: { service: Service; files: Record<string, string> }[],
  configDir: string | undefined,
): (PlainConfig['services'][string] | undefined)[] {
  if (services.length === 0) return [];
  const entries = services.map(({ service }, index) => [`s${index}`, { image: 'a', ...service }]);
  const files = Object.assign({}, ...services.map(one => one.files)) as Record<string, string>;
  const withPaths = JSON.stringify({ services: Object.fromEntries(entries) });
  const dir = stackFolder({ 'compose.yaml': withPaths, '.env': DOT_ENV, ...files });
  const config = renderPlainly(dir, configDir);
  if (config) return services.map((_, index) => config.services[`s${index}`]);
  if (services.length === 1) return [undefined];
  const half = services.length >> 1;
  return [...renderServices(services.slice(0, half), configDir), ...renderServices(services.slice(half), configDir)];
}

const DOT_ENV = 'A=va\nB=\na=xa\n';
const lookup = (name: string) => new Map(Object.entries({ A: 'va', B: '', a: 'xa' })).get(name);
/** Compose writes each literal "$" twice. */
const escaped = (text: string) => text.replaceAll('$', '$$$$');

const VARIABLES = ['$', '${', '}', '{', '$$', '$A', '${A', '${B', '${A:-', '${B:-', '${B-', '${B+', '${A:+'];
const texts = (parts: string[]) => fc.array(fc.constantFrom(...parts), { maxLength: 14 }).map(list => list.join(''));

describe.each(COMPOSES)('compared with %s', (_, configDir) => {
  it('an env file has the same values, also in its copy', () => {
    const part = [
      'a',
      'A',
      '"',
      "'",
      '\\',
      ' ',
      '#',
      '=',
      ':',
      '\n',
      '\nV1=',
      '\nV2=',
      'export ',
      '\t',
      '\r',
      '0',
      '\\n',
    ];
    const more = ['\\"', '\\$', '\\\\', '[', '.', 'é', '\u00a0', '1F=', ...VARIABLES];
    const samples = fc.sample(texts([...part, ...more]), { numRuns: 200, seed: 11 });
    const files = samples.map(text => `V0=${text}\nLAST=1\n`);
    const read = files.flatMap(text => {
      try {
        return [{ text, values: readEnvText(text, lookup) }];
      } catch {
        return [];
      }
    });
    expect(read.length).toBeGreaterThan(60);
    const asServices = (of: (one: (typeof read)[number]) => string) =>
      read.map((one, index) => ({ service: { env_file: `${index}.env` }, files: { [`${index}.env`]: of(one) } }));
    const theirs = renderAll(asServices(one => one.text));
    const copied = renderAll(asServices(one => writeEnvText(one.values)));
    for (const [index, { text, values }] of read.entries()) {
      const ours = Object.fromEntries([...values].map(([name, value]) => [name, escaped(value)]));
      expect([text, ours]).toEqual([text, theirs[index]?.environment]);
      expect([text, ours]).toEqual([text, copied[index]?.environment]);
    }
  });

  it('a text has the same value', () => {
    const samples = fc.sample(texts(['a', 'A', '_', '0', ' ', '"', '-', '?', '+', '\n', ...VARIABLES]), {
      numRuns: 120,
      seed: 5,
    });
    const ours = samples.flatMap(text => {
      try {
        return [{ text, value: interpolate(text, lookup) }];
      } catch {
        return [];
      }
    });
    const theirs = renderAll(ours.map(({ text }) => ({ service: { labels: { x: text } }, files: {} })));
    const compared = ours.filter((__, index) => theirs[index] !== undefined);
    expect(compared.length).toBeGreaterThan(30);
    for (const [index, { text, value }] of ours.entries()) {
      // A default that is not used may be one that compose refuses.
      if (theirs[index]) expect([text, escaped(value)]).toEqual([text, theirs[index].labels?.x]);
    }
  });

  it('a stack of many files is the same', async () => {
    const dir = stackFolder(STACK);
    const { config } = await renderSources({ dir, overlay: {} }, 'web', configDir);
    const plain = renderPlainly(dir, configDir);
    for (const { volumes } of Object.values(plain?.services ?? {}))
      for (const volume of volumes ?? [])
        if (volume.type === 'bind') volume.bind = { ...volume.bind, create_host_path: false };
    expect(config).toEqual(plain);
  });

  it('a path in a home folder is refused, because the agent has none', async () => {
    const dir = stackFolder({ 'compose.yaml': 'services: {web: {image: a, volumes: ["~/data:/data"]}}\n' });
    await expect(renderSources({ dir, overlay: {} }, 'web', configDir)).rejects.toMatchObject({
      code: 'compose-invalid',
      message: expect.stringContaining('"~/data"'),
    });
  });

  const renderAll = (services: { service: Service; files: Record<string, string> }[]) =>
    renderServices(services, configDir);
});

const STACK = {
  'compose.yaml': `
include:
  - path: inner/compose.yaml
    env_file: inner/variables.env
  - twice/one.yaml
  - twice/two.yaml
x-base: &base
  restart: unless-stopped
  logging: &logging {driver: local, options: {max-size: 10m}}
x-other: &other {logging: *logging, init: true}
services:
  web:
    <<: [*base, *other]
    container_name: \${COMPOSE_PROJECT_NAME}-web
    user: "0100"
    environment: {NUMBER: 1_000, OCTAL: 0440, FLOAT: 1.10, YES: yes, NOTHING: , A: , JSON: '\${UNSET:-{"a": 1}}', PRICE: "5$"}
    labels: ["hash=$$2y$$10$$abc", "rule=Host(\`a\`) && Path(\`{p:.*}\`)"]
    extends: {file: base/base.yaml, service: web}
    mem_limit: "\${LIMIT:-64m}"
    ports: ["127.0.0.1:8080:80", "\${PORT-9090}:90/udp"]
  plain: {image: a, build: {context: ., args: [A, UNSET]}}
volumes: {data: {}}
`,
  'compose.override.yml': 'services: {web: {ports: !override ["81:80"], environment: {YES: !reset null}}}\n',
  '.env': 'A=outer\nLIMIT=32m\n',
  'inner/compose.yaml':
    'services: {inner: {image: "a:$V", environment: [V, A], env_file: [one.env, two.env], volumes: ["./d:/d", "../e:/e"]}}\n',
  'inner/variables.env': 'V=3\nA=inner\n',
  'inner/one.env': "V1='it\\'s'\nCOLOR=#fff # red\n2FA=on\n",
  'inner/two.env': 'V2="$V1 $A"\n',
  'twice/one.yaml': 'include: [shared.yaml]\nservices: {one: {image: a, networks: [shared]}}\n',
  'twice/two.yaml': 'include: [shared.yaml]\nservices: {two: {image: a, networks: [shared]}}\n',
  'twice/shared.yaml': 'networks: {shared: {driver: bridge}}\nservices: {common: {image: a, volumes: ["./c:/c"]}}\n',
  'base/base.yaml': `
services:
  web: {image: a, extends: middle, env_file: base.env, volumes: ["./conf:/conf:ro", "data:/data"]}
  middle: {extends: {file: ../deep.yaml, service: deep}, labels: {middle: "1"}}
  unrelated: {image: a, env_file: missing.env, extends: {file: missing.yaml, service: x}}
`,
  'base/base.env': 'BASE=$A\n',
  'deep.yaml': 'services: {deep: {image: b, labels: {deep: "$A"}, devices: ["/dev/null"]}}\n',
};
