import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readEnvText } from '../agent/compose/env-text.ts';
import { type Isolation, probeIsolation, runIsolated } from '../agent/compose/isolation.ts';
import { renderSources, renderStack } from '../agent/compose/render.ts';
import type { ComposeConfig, ComposeRules } from '../agent/plan/plan.ts';

let root = '';
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chatops-rendered-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
function stackFolder(files: Record<string, string>): string {
  const dir = join(root, String(++count), 'web');
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

/** The config as compose itself renders it from the folder. */
function renderPlainly(dir: string): ComposeConfig {
  const args = ['compose', '--project-name', 'web', '--profile', '*', 'config', '--format', 'json'];
  const env = { PATH: process.env.PATH ?? '', HOME: '/nonexistent' };
  return JSON.parse(execFileSync('docker', args, { cwd: dir, env, stdio: ['ignore', 'pipe', 'ignore'] }).toString());
}

const rules = (dir: string, more: Partial<ComposeRules> = {}): ComposeRules => ({
  ...{ stack: 'web', project: 'web', others: [], dir, grants: [], binds: [], readOnlyBinds: [], ports: [[1, 65_535]] },
  ...{
    agentPorts: [],
    hostNetworks: [],
    socket: '/var/run/docker.sock',
    agent: [],
    devices: [],
    capabilities: [],
    containers: [],
    volumes: [],
    networks: [],
  },
  ...more,
});

const render = (dir: string, variants = {}) =>
  renderStack(
    { stack: 'web', dir, overlay: {}, as: join(dir, '..', 'run', 'compose-1.json'), variants },
    rules(dir),
    undefined,
  );

const HOMELAB = {
  'compose.yaml': `
include:
  - path: [apps/one.yaml, apps/one.local.yaml]
    env_file: apps/apps.env
x-common: &common
  restart: unless-stopped
  logging: {driver: local}
services:
  web:
    <<: *common
    image: "example/web:\${TAG:-1}"
    env_file: [app.env, {path: missing.env, required: false}]
    environment: {FROM_ENV: , LITERAL: "a $$ b", NESTED: "\${A:-\${B:-c}}"}
    volumes: ["./data:/data", "cache:/cache"]
    configs: [{source: conf, target: /etc/conf, mode: 0440}]
    ports: ["8080:80"]
    deploy: {replicas: "\${REPLICAS:-2}"}
  tool:
    extends: {file: base/base.yaml, service: tool}
    profiles: [tools]
volumes: {cache: {}}
configs: {conf: {content: "x=\${TAG}"}}
`,
  'compose.override.yaml': 'services: {web: {labels: {a: "1"}, ports: !reset []}}\n',
  '.env': 'TAG=7\nFROM_ENV=yes\nCOMPOSE_PROFILES=tools\n',
  'app.env': 'export PLAIN=one two # comment\nSINGLE=\'$HOME # kept\'\nDOUBLE="a\\nb $TAG"\n\nEMPTY=\n',
  'apps/one.yaml': 'services: {one: {image: "one:$VERSION", volumes: ["./one:/one"], env_file: one.env}}\n',
  'apps/one.local.yaml': 'services: {one: {environment: [LOCAL=1]}}\n',
  'apps/apps.env': 'VERSION=3\n',
  'apps/one.env': 'ONE=$VERSION\n',
  'base/base.yaml': 'services: {tool: {image: tool, volumes: ["./conf:/conf"], env_file: tool.env}}\n',
  'base/tool.env': 'TOOL=1\n',
};

function isReadable(text: string, lookup: (name: string) => string | undefined): boolean {
  try {
    readEnvText(text, lookup);
    return true;
  } catch {
    return false;
  }
}

describe('a rendered config', () => {
  it('is the one that compose renders from the same folder', async () => {
    const dir = stackFolder(HOMELAB);
    const { config } = await renderSources({ dir, overlay: {} }, 'web', undefined);
    const plain = renderPlainly(dir);
    for (const service of Object.values(plain.services))
      for (const volume of (service.volumes ?? []) as { bind?: { create_host_path?: boolean } }[])
        if (volume.bind) volume.bind.create_host_path = false;
    expect(config).toEqual(plain);
  });

  it('has the values that compose reads from any env file that is accepted', async () => {
    const character = fc.constantFrom(...'ab$"\'\\ #={}:-?+nt_\n');
    const line = fc.array(character, { maxLength: 12 }).map(text => text.join(''));
    const lookup = (name: string) => ({ a: 'A', ab: 'AB', b: '' })[name];
    const texts = fc
      .sample(fc.array(line, { minLength: 1, maxLength: 4 }), { numRuns: 300, seed: 7 })
      .map(lines => `${lines.map((value, index) => `V${index}=${value}`).join('\n')}\n`)
      .filter(text => isReadable(text, lookup));
    expect(texts.length).toBeGreaterThan(60);
    const services = texts.map((_, index) => `  s${index}: {image: a, env_file: ${index}.env}`);
    const dir = stackFolder({
      'compose.yaml': `services:\n${services.join('\n')}\n`,
      '.env': 'a=A\nab=AB\nb=\n',
      ...Object.fromEntries(texts.map((text, index) => [`${index}.env`, text])),
    });
    const { config } = await renderSources({ dir, overlay: {} }, 'web', undefined);
    expect(config.services).toEqual(renderPlainly(dir).services);
  });

  it('starts no program and reads no file that the stack’s .env or files name', async () => {
    const proof = join(root, 'pwned');
    const dir = stackFolder({
      'compose.yaml': 'services: {web: {image: a}}\ninclude: ["git@127.0.0.1:a/b.git"]\n',
      '.env': `GIT_SSH_COMMAND=touch ${proof}\nCOMPOSE_PROJECT_NAME=web\n`,
    });
    await expect(render(dir)).rejects.toMatchObject({ code: 'compose-remote' });
    const provider = stackFolder({
      'compose.yaml': 'services: {web: {provider: {type: ./run.sh}}}\n',
      'run.sh': `#!/bin/sh\ntouch ${proof}\n`,
    });
    await expect(render(provider)).rejects.toMatchObject({ code: expect.stringMatching(/^compose-/) });
    expect(() => statSync(proof)).toThrow();
  });

  it('is refused with file, line and the name that is not the stack’s', async () => {
    const dir = stackFolder({ 'compose.yaml': 'name: victim\nservices: {web: {image: a}}\n' });
    await expect(render(dir)).rejects.toMatchObject({
      code: 'compose-not-allowed',
      message: expect.stringContaining(`${dir}/compose.yaml:1: The project name "victim" is not "web"`),
    });
    const byEnv = stackFolder({
      'compose.yaml': 'services: {web: {image: a}}\n',
      '.env': 'COMPOSE_PROJECT_NAME=victim\n',
    });
    await expect(render(byEnv)).rejects.toMatchObject({ code: 'compose-not-allowed' });
  });

  it('covers the services of every profile', async () => {
    const dir = stackFolder({
      'compose.yaml': 'services:\n  web: {image: a}\n  evil:\n    image: a\n    profiles: [x]\n    privileged: true\n',
    });
    await expect(render(dir)).rejects.toMatchObject({
      code: 'compose-not-allowed',
      message: expect.stringMatching(/compose\.yaml:6: service evil/),
    });
  });

  it('is bounded: a file that compose would render to hundreds of megabytes is refused', async () => {
    const text = 'x'.repeat(20_000);
    const dir = stackFolder({
      'compose.yaml': [
        `x-v: &v "${text}"`,
        'x-m: &m',
        ...Array.from({ length: 40 }, (_, index) => `  V${index}: *v`),
        'services:',
        ...Array.from({ length: 24 }, (_, index) => `  s${index}: {image: a, environment: *m}`),
      ].join('\n'),
    });
    await expect(render(dir)).rejects.toMatchObject({ code: 'compose-too-large' });
  });

  it('never has a value of an env file in a message of compose', async () => {
    const dir = stackFolder({
      'compose.yaml': 'services: {web: {image: a, ports: ["$SECRET"], mem_limit: "$SECRET"}}\n',
      '.env': 'SECRET=s3cret-value:of:this\n',
    });
    const failure = await render(dir).catch((error: Error) => error);
    expect(failure).toMatchObject({ code: 'compose-invalid' });
    expect(JSON.stringify(failure)).not.toContain('s3cret');
    expect((failure as Error).message).not.toContain('s3cret');
  });

  it('is stored for the agent alone, also under another project’s name', async () => {
    const dir = stackFolder(HOMELAB);
    const as = join(dir, '..', 'green.json');
    const rendered = await render(dir, { green: { as, project: 'web-green', unpublished: 'web' } });
    expect(rendered.mounts.map(({ source }) => source)).toEqual(
      ['apps/one', 'base/conf', 'data'].map(name => `${dir}/${name}`),
    );
    expect(rendered.profiles).toEqual(['tools']);
    for (const file of [rendered.file ?? '', as]) expect(statSync(file).mode & 0o777).toBe(0o600);
    const args = [
      'compose',
      '--env-file',
      '/dev/null',
      '--file',
      as,
      '--project-name',
      'web-green',
      'config',
      '--format',
      'json',
    ];
    const green = JSON.parse(execFileSync('docker', args, { stdio: ['ignore', 'pipe', 'ignore'] }).toString());
    expect(green.networks.default.name).toBe('web-green_default');
    expect(green.services.web.environment).toEqual(rendered.config.services.web?.environment);
  });
});

describe('the isolation of a rendering', () => {
  it.each<Isolation>(['namespaces', 'user', 'input'])('renders the same: %s', async isolation => {
    const dir = mkdtempSync(join(root, 'isolated-'));
    writeFileSync(join(dir, 'c.yaml'), 'services: {web: {image: a}}');
    execFileSync('chmod', ['0777', dir, root]);
    const args = [
      '--project-directory',
      dir,
      '--project-name',
      'web',
      '--file',
      join(dir, 'c.yaml'),
      'config',
      '--format',
      'json',
    ];
    const { code, stdout } = await runIsolated(args, dir, undefined, isolation);
    expect([code, JSON.parse(stdout).services.web.image]).toEqual([0, 'a']);
  });

  it('leaves no file of the host and no network in reach where the kernel permits it', async () => {
    expect(await probeIsolation()).toBe('namespaces');
    const dir = mkdtempSync(join(root, 'isolated-'));
    writeFileSync(
      join(dir, 'c.yaml'),
      'include: [/etc/hostname, "http://127.0.0.1:1/x.yaml"]\nservices: {web: {image: a}}',
    );
    const { code, stderr } = await runIsolated(['--file', join(dir, 'c.yaml'), 'config'], dir, undefined, 'namespaces');
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/\/etc\/hostname: no such file/);
  });
});
