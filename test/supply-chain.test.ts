import { globSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

interface Job {
  permissions?: unknown;
  steps: { uses?: string; run?: string; with?: Record<string, unknown> }[];
}
interface Workflow {
  on: Record<string, unknown>;
  permissions?: unknown;
  concurrency?: unknown;
  jobs: Record<string, Job>;
}
const workflows = globSync('.github/workflows/*.yml').map(path => {
  const text = readFileSync(path, 'utf8');
  return { path, text, workflow: parse(text) as Workflow };
});
const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  packages: Record<
    string,
    { version: string; integrity?: string; hasInstallScript?: boolean; dev?: boolean; devOptional?: boolean }
  >;
};
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>;

/** Returns the findings of zizmor that this test can detect without zizmor. */
function findingsOf({ text, workflow }: { text: string; workflow: Workflow }): string[] {
  const findings: string[] = [];
  if (JSON.stringify(workflow.permissions) !== '{}') findings.push('the workflow has permissions of its own');
  if (workflow.concurrency === undefined) findings.push('no concurrency');
  if ('pull_request_target' in workflow.on || 'workflow_run' in workflow.on) findings.push('a dangerous trigger');
  for (const [, reference = '', comment] of text.matchAll(/uses: \S+?@(\S+)(?: # (v\d+\.\d+\.\d+))?$/gm))
    if (!/^[0-9a-f]{40}$/.test(reference) || comment === undefined) findings.push(`not pinned: ${reference}`);
  for (const job of Object.values(workflow.jobs)) {
    if (job.permissions === undefined) findings.push('a job without permissions');
    for (const { uses = '', run = '', with: given } of job.steps) {
      if (uses.startsWith('actions/checkout@') && given?.['persist-credentials'] !== false)
        findings.push('credentials are kept');
      if (/\$\{\{/.test(run)) findings.push('a template in a script');
    }
  }
  return findings;
}

describe('the workflows', () => {
  it('runs all security tools in exactly two workflows, without a finding of zizmor', () => {
    expect(workflows.map(({ path }) => path).sort()).toEqual([
      '.github/workflows/ci.yml',
      '.github/workflows/security.yml',
    ]);
    for (const workflow of workflows) expect(findingsOf(workflow), workflow.path).toEqual([]);
    const uses = workflows.map(({ text }) => text).join('\n');
    for (const wanted of [
      'codeql-action/analyze@',
      'scorecard-action@',
      'zizmor-action@',
      'npm audit signatures',
      'make fuzz',
    ])
      expect(uses).toContain(wanted);
  });

  it('detects each finding in an unsafe workflow', () => {
    const text = [
      'on: {pull_request_target: {}}',
      'permissions: {contents: write}',
      'jobs:',
      '  x:',
      '    steps:',
      '      - uses: actions/checkout@v7',
      `      - run: echo ${'$'}{{ github.head_ref }}`,
    ].join('\n');
    expect(findingsOf({ text, workflow: parse(text) as Workflow })).toHaveLength(7);
  });
});

describe('the packages', () => {
  it('pins each package exactly, and has checksums', () => {
    for (const kind of ['dependencies', 'devDependencies'])
      for (const [name, version] of Object.entries(manifest[kind] ?? {}))
        expect(version, name).toMatch(/^\d+\.\d+\.\d+$/);
    const without = Object.entries(lock.packages).filter(
      ([path, { integrity }]) => path !== '' && integrity === undefined,
    );
    // The lock file has no checksums for programs of other platforms.
    expect(without.map(([path]) => path).filter(path => !path.includes('@biomejs/cli-'))).toEqual([]);
  });

  it('runs no install scripts, except for the Node of the tests', () => {
    const scripts = Object.entries(lock.packages).filter(([, { hasInstallScript }]) => hasInstallScript);
    expect(scripts.map(([path]) => path)).toEqual(['node_modules/node']);
  });

  it('lists the bundled packages in the bill of materials, with license and checksum', () => {
    const bom = JSON.parse(readFileSync('dist/sbom.cdx.json', 'utf8')) as {
      bomFormat: string;
      components: {
        group?: string;
        name: string;
        version: string;
        purl: string;
        hashes: { content: string }[];
        licenses: unknown[];
      }[];
    };
    expect(bom.bomFormat).toBe('CycloneDX');
    const names = bom.components.map(({ group, name }) => (group === undefined ? name : `${group}/${name}`));
    for (const name of Object.keys(manifest.dependencies ?? {})) expect(names).toContain(name);
    for (const name of Object.keys(manifest.devDependencies ?? {})) expect(names).not.toContain(name);
    for (const { purl, hashes, licenses } of bom.components) {
      expect(purl).toMatch(/^pkg:npm\/[^@]+@\d/);
      expect(hashes[0]?.content, purl).toMatch(/^[0-9a-f]{128}$/);
      expect(licenses, purl).toHaveLength(1);
    }
  });
});
