#!/bin/sh
# Takes a commit back on a branch of its own: revert/<rollout>/<commit>. It never pushes to another branch, and does nothing
# where the branch is there already, so that it may run as often as it likes.
#
#   revert.sh ROLLOUT COMMIT [BRANCH]
#
# in a clone whose remote `origin` it may push to. BRANCH is what the revert is made onto, main where none is given. Its
# output is the branch, or nothing where there is nothing to take back.
set -eu

rollout=${1:?usage: revert.sh ROLLOUT COMMIT [BRANCH]}
commit=${2:?usage: revert.sh ROLLOUT COMMIT [BRANCH]}
onto=${3:-main}

# What a webhook says is not trusted to be what it looks like.
case $rollout in
  *[!a-z0-9.-]* | -* | .* | *..* ) echo "no name of a Rollout: $rollout" >&2; exit 2 ;;
esac
case $commit in
  *[!0-9a-f]* ) echo "no commit: $commit" >&2; exit 2 ;;
esac
if [ "${#commit}" -ne 40 ] && [ "${#commit}" -ne 64 ]; then
  echo "not the whole hash of a commit: $commit" >&2
  exit 2
fi

branch=revert/$rollout/$commit
if git ls-remote --exit-code --heads origin "refs/heads/$branch" >/dev/null; then
  echo "the branch is there already" >&2
  echo "$branch"
  exit 0
fi
git fetch --quiet origin "refs/heads/$onto"
onto_commit=$(git rev-parse FETCH_HEAD)
if ! git merge-base --is-ancestor "$commit" "$onto_commit"; then
  echo "$commit is not on $onto: there is nothing to take back" >&2
  exit 0
fi
if git log --format=%B "$commit..$onto_commit" | grep -q "^This reverts commit $commit"; then
  echo "$commit is taken back already" >&2
  exit 0
fi

git checkout --quiet --detach "$onto_commit"
# A merge is taken back towards the branch that it was merged into.
if git rev-parse --quiet --verify "$commit^2" >/dev/null; then
  set -- --mainline 1
else
  set --
fi
if ! git revert --no-edit "$@" "$commit" >&2; then
  git revert --abort || true
  echo "$commit cannot be taken back by itself: something else was changed since" >&2
  exit 1
fi
# Somebody may have been faster: then their branch stays as it is.
if ! git push --quiet origin "HEAD:refs/heads/$branch"; then
  git ls-remote --exit-code --heads origin "refs/heads/$branch" >/dev/null
fi
echo "$branch"
