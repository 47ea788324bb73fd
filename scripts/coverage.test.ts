import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';

it('the coverage figure is one line, printed and added to the summary of the job', () => {
  const dir = mkdtempSync(join(tmpdir(), 'chatops-coverage-'));
  try {
    const [report, summary] = [join(dir, 'report.json'), join(dir, 'summary.md')];
    writeFileSync(
      report,
      JSON.stringify({ total: { lines: { pct: 71.26 }, functions: { pct: 70 }, branches: { pct: 5.5 } } }),
    );
    writeFileSync(summary, 'before\n');
    const printed = execFileSync(process.execPath, ['scripts/coverage.ts', report], {
      encoding: 'utf8',
      env: { ...process.env, GITHUB_STEP_SUMMARY: summary },
    });
    expect(printed).toBe('Unit tests cover 71.3 % of lines, 70.0 % of functions, 5.5 % of branches.\n');
    expect(readFileSync(summary, 'utf8')).toBe(`before\n${printed}`);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
