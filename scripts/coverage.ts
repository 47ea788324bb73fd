import { appendFileSync, readFileSync } from 'node:fs';

/** Prints the coverage of the last run as one line, also to the summary of a job. Usage: node scripts/coverage.ts [FILE] */
const [file = 'build/coverage/coverage-summary.json'] = process.argv.slice(2);
const { total } = JSON.parse(readFileSync(file, 'utf8')) as { total: Record<string, { pct: number }> };
const figures = ['lines', 'functions', 'branches'].map(kind => `${total[kind]?.pct.toFixed(1)} % of ${kind}`);
const line = `Unit tests cover ${figures.join(', ')}.`;
console.log(line);
if (process.env.GITHUB_STEP_SUMMARY) appendFileSync(process.env.GITHUB_STEP_SUMMARY, `${line}\n`);
