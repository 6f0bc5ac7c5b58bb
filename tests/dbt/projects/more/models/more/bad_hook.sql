{{ config(post_hook="select no_such_column_in_a_hook") }}
select 1 as id
