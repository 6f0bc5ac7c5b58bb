select id, name from {{ ref("colours") }}
