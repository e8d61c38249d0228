const oldest = { major: 20, minor: 19 };

/**
 * Ends with one line instead of a syntax error where Node is too old for the rest of the scripts. Nothing is imported
 * here, and whoever calls it imports the rest afterwards.
 */
export function requireNode(version = process.versions.node) {
  const problem = nodeProblem(version);
  if (problem === undefined) return;
  process.stderr.write(`${problem}\nInstall a newer one from https://nodejs.org or with your version manager.\n`);
  process.exit(1);
}

/** What is wrong with a version of Node, or undefined. */
export function nodeProblem(version = process.versions.node) {
  const [major, minor] = version.split('.').map(Number);
  const isNewEnough = major > oldest.major || (major === oldest.major && minor >= oldest.minor);
  return isNewEnough ? undefined : `Node is too old: expected ${oldest.major}.${oldest.minor} or later, got ${version}`;
}
