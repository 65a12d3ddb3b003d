-- A small school with simulated answers: 12 skills, 100 students, 8 answers of each to each skill in the last 8 days.
CREATE TABLE skills (id text PRIMARY KEY, active boolean NOT NULL DEFAULT true);
CREATE TABLE items (id text PRIMARY KEY, skill_id text NOT NULL REFERENCES skills);
CREATE TABLE attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    student_id bigint NOT NULL,
    item_id text NOT NULL REFERENCES items,
    is_correct boolean,
    created_at timestamptz NOT NULL
);

INSERT INTO skills (id) SELECT 'skill-' || skill FROM generate_series(1, 12) AS skill;
INSERT INTO items SELECT id || '-item-' || item, id FROM skills, generate_series(1, 4) AS item;

-- A student knows a skill from the start with probability 0.3, and learns it after each answer with probability 0.2.
WITH learners AS MATERIALIZED (
    SELECT
        skill, student,
        CASE WHEN random() < 0.3 THEN 1 ELSE 2 + floor(ln(1 - random()) / ln(0.8)) END AS known_from
    FROM generate_series(1, 12) AS skill, generate_series(1, 100) AS student
)
INSERT INTO attempts (student_id, item_id, is_correct, created_at)
SELECT
    student,
    'skill-' || skill || '-item-' || answer % 4 + 1,
    random() < CASE WHEN answer >= known_from THEN 0.9 ELSE 0.2 END,
    now() - make_interval(days => 8 - answer, secs => student)
FROM learners, generate_series(1, 8) AS answer;

CREATE INDEX ON items (skill_id);
CREATE INDEX ON attempts (item_id, created_at) INCLUDE (student_id, is_correct, id);
